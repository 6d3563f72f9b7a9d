"""Checks of a set of images: unreadable files, copies, classes with too few images, shared groups.

What makes a data set unusable is raised as a DataError that lists the images. What is only unusual
becomes a sentence in the data set's warnings.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal

from edgekd.core.errors import DataError
from edgekd.core.records import Record
from edgekd.data.decoding import ReadImage
from edgekd.data.shown_names import SHOWN, shown
from edgekd.data.sources import SPLITS
from edgekd.data.splits import FEWEST
from edgekd.settings.recipe_toml import spelled

Policy = Literal["refuse", "drop"]  # of `data.duplicates`

# Shorter sides below this belong to thumbnails and tracking pixels. A warning counts such images.
TINY_PX = 8


class Copies(Record, frozen=True):
    """How many images are copies of others, byte for byte.

    `images`: copies beside the first of each image. `across_splits`, `across_classes`: images that
    lie in more than one split or class. `dropped`: images that were left out because of that.
    """

    images: int
    across_splits: int
    across_classes: int
    dropped: int


class GroupCounts(Record, frozen=True):
    """How many groups each split holds, and how many train shares with val and with test."""

    train: int
    val: int
    test: int
    train_and_val: int
    train_and_test: int


def unreadable(name: str, failures: Sequence[DataError]) -> DataError:
    """The error that lists images which cannot be read."""
    # What a package would mend comes first.
    install = {each.next_step for each in failures if each.next_step.startswith("pip install")}
    leave = "repair or remove them, or leave them out with --set data.on_error=skip"
    return DataError(
        f"{name}: {len(failures)} images cannot be read:{lines([each.what for each in failures])}",
        "; otherwise ".join([*sorted(install), leave]),
    )


def without_copies(
    name: str, images: Sequence[ReadImage], policy: Policy
) -> tuple[list[ReadImage], Copies]:
    """The images that stay, and counts of those that occur more than once.

    An image in two classes goes from both, because one label must be wrong. An image in two splits
    stays in test, else in val. Raises DataError for either under the policy "refuse".
    """
    by_hash: dict[str, list[ReadImage]] = defaultdict(list)
    for image in images:
        by_hash[image.sha256].append(image)
    copies = [same for same in by_hash.values() if len(same) > 1]
    contradicting = [same for same in copies if len({image.item.label for image in same}) > 1]
    leaking = [same for same in copies if len({image.item.split for image in same}) > 1]
    if policy == "refuse":
        _refuse(name, contradicting, "lie in two classes, so one label is wrong")
        _refuse(name, leaking, "lie in two splits, so the test would measure memory")
    dropped = {image.row for same in contradicting for image in same}
    rank = {"test": 0, "val": 1, "train": 2}
    for same in leaking:
        best = min(rank[image.split] for image in same)
        dropped |= {image.row for image in same if rank[image.split] > best}
    return [image for image in images if image.row not in dropped], Copies(
        images=sum(len(same) - 1 for same in copies),
        across_splits=len(leaking),
        across_classes=len(contradicting),
        dropped=len(dropped),
    )


def _refuse(name: str, copies: Sequence[Sequence[ReadImage]], what: str) -> None:
    if copies:
        equal = [" = ".join(repr(image.item.name) for image in same) for same in copies]
        raise DataError(
            f"{name}: {len(copies)} images {what} (equal sha256):{lines(equal)}",
            "remove one of each, or let --set data.duplicates=drop do it (test stays, train goes)",
        )


def lines(texts: Sequence[str]) -> str:
    """The first texts, each on an indented line of its own, and how many more there are."""
    more = [f"and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
    return "".join(f"\n  {text}" for text in [*texts[:SHOWN], *more])


def enough(name: str, images: Sequence[ReadImage], classes: Sequence[str]) -> None:
    """Check that every split has FEWEST images of each class. Raises DataError with a list.

    Where an image may have several labels, each split needs FEWEST images with each label and
    FEWEST without it.
    """
    counts = Counter((image.split, label) for image in images for label in image.item.counted)
    few = [
        (label, f"{split}/{label}: {counts[split, label]}")
        for split in SPLITS
        for label in classes
        if counts[split, label] < FEWEST
    ]
    sizes = Counter(image.split for image in images)
    several = any(image.item.findings is not None for image in images)
    if several:
        few += [
            (label, f"{split} without {label}: {sizes[split] - counts[split, label]}")
            for split in SPLITS
            for label in classes
            if sizes[split] - counts[split, label] < FEWEST
        ]
    if few:
        short = {label for label, _ in few}
        rest = [label for label in classes if label not in short]
        others = "leave it out"
        if several and len(rest) > 1:
            others = f"name the other labels of a CSV (--set 'data.labels={spelled(tuple(rest))}')"
        raise DataError(
            f"{name}: fewer than {FEWEST} images of a class or label in a split: "
            f"{shown([text for _, text in few])}",
            f"add images, {others}, or raise data.limit, data.val_share or data.test_share",
        )


def group_counts(images: Sequence[ReadImage]) -> GroupCounts:
    """Count the groups of the splits."""
    own: dict[str, set[str]] = {split: set() for split in SPLITS}
    for image in images:
        if image.item.group is not None:
            own[image.split].add(image.item.group)
    return GroupCounts(
        train=len(own["train"]),
        val=len(own["val"]),
        test=len(own["test"]),
        train_and_val=len(own["train"] & own["val"]),
        train_and_test=len(own["train"] & own["test"]),
    )


def warnings(
    images: Sequence[ReadImage], groups: GroupCounts, copies: Copies, tiny: int
) -> list[str]:
    """Sentences on what is unusual but usable. `tiny`: images that were smaller than TINY_PX."""
    said = []
    if copies.images:
        said.append(
            f"{copies.images} images are copies of others; {copies.dropped} were dropped, "
            "the rest lie in one split each"
        )
    for split, shared in (("val", groups.train_and_val), ("test", groups.train_and_test)):
        if shared:
            said.append(
                f"{shared} groups have images in train and in {split}, as the source divides them: "
                f"if they are the same people, accuracy on {split} is flattered"
            )
    if tiny:
        said.append(f"{tiny} images have a side below {TINY_PX} px")
    if len({image.grey for image in images}) > 1:
        total = Counter(image.item.label for image in images)
        grey = Counter(image.item.label for image in images if image.grey)
        shares = ", ".join(
            f"{label} {100 * grey[label] / total[label]:.0f} %" for label in sorted(total)[:SHOWN]
        )
        said.append(
            f"grey and coloured images are mixed (grey: {shares}); where the classes differ in "
            "that, a network can tell them by colour alone"
        )
    return said
