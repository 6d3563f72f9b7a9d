"""What is wrong with a set of images, and what is merely odd: unreadable files, copies, thin classes, shared groups.

What is wrong is raised as a DataError that lists the images; what is odd becomes a sentence for the dataset's facts.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from edgekd.core.artifacts import Json
from edgekd.core.errors import DataError
from edgekd.data.folders import SHOWN, shown
from edgekd.data.sources import SPLITS, Item
from edgekd.data.splits import FEWEST

# Smaller than this, an image is a thumbnail or a tracking pixel; it is used, and a warning counts it.
TINY_PX = 8


def unreadable(name: str, failures: list[DataError]) -> DataError:
    """The error that lists images which cannot be read."""
    first = "\n  ".join(failure.what for failure in failures[:SHOWN])
    more = f"\n  and {len(failures) - SHOWN} more" if len(failures) > SHOWN else ""
    return DataError(
        f"{name}: {len(failures)} images cannot be read:\n  {first}{more}",
        "repair or remove them, or leave them out with --set data.on_error=skip",
    )


def duplicates(
    name: str, items: list[Item], hashes: list[str], policy: str
) -> tuple[set[int], dict[str, Json]]:
    """Which rows to drop because the same image lies elsewhere, and the counts. Raises DataError under "refuse"."""
    same: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(hashes):
        same[digest].append(index)
    copies = [rows for rows in same.values() if len(rows) > 1]
    two_labels = [rows for rows in copies if len({items[row].label for row in rows}) > 1]
    leaks = [rows for rows in copies if len({items[row].split for row in rows}) > 1]
    if policy == "refuse":
        for rows_list, what in (
            (two_labels, "lie in two classes, so one label is wrong"),
            (leaks, "lie in two splits, so the test would measure memory"),
        ):
            if rows_list:
                listed = "\n  ".join(
                    " = ".join(repr(items[row].name) for row in rows) for rows in rows_list[:SHOWN]
                )
                more = f"\n  and {len(rows_list) - SHOWN} more" if len(rows_list) > SHOWN else ""
                raise DataError(
                    f"{name}: {len(rows_list)} images {what} (equal sha256):\n  {listed}{more}",
                    "remove one of each, or let --set data.duplicates=drop do it (test stays, train goes)",
                )
    drop = {row for rows in two_labels for row in rows}  # nobody knows which label is right
    rank = {"test": 0, "val": 1, "train": 2, None: 2}
    for rows in leaks:
        best = min(rank[items[row].split] for row in rows)
        drop |= {row for row in rows if rank[items[row].split] > best}
    return drop, {
        "images": sum(len(rows) - 1 for rows in copies),
        "across_splits": len(leaks),
        "across_classes": len(two_labels),
        "dropped": len(drop),
    }


def enough(name: str, items: list[Item], splits: list[str], classes: list[str]) -> None:
    """Raises DataError listing each class that has fewer than FEWEST images in a split; of several labels an image, each
    that fewer have, or lack.
    """
    counts = Counter(
        (split, label) for split, item in zip(splits, items, strict=True) for label in item.counted
    )
    few = [
        f"{split}/{label}: {counts[split, label]}"
        for split in SPLITS
        for label in classes
        if counts[split, label] < FEWEST
    ]
    sizes = Counter(splits)
    if any(item.findings is not None for item in items):
        few += [
            f"{split} without {label}: {sizes[split] - counts[split, label]}"
            for split in SPLITS
            for label in classes
            if sizes[split] - counts[split, label] < FEWEST
        ]
    if few:
        raise DataError(
            f"{name}: fewer than {FEWEST} images of a class or label in a split: {shown(few)}",
            "add images, leave it out, or raise data.limit, data.val_share or data.test_share",
        )


def group_facts(items: list[Item], splits: list[str]) -> dict[str, Json]:
    """How many groups each split holds, and how many train shares with val and with test."""
    own: dict[str, set[str]] = {split: set() for split in SPLITS}
    for item, split in zip(items, splits, strict=True):
        if item.group is not None:
            own[split].add(item.group)
    return {
        **{split: len(groups) for split, groups in own.items()},
        "train_and_val": len(own["train"] & own["val"]),
        "train_and_test": len(own["train"] & own["test"]),
    }


def warnings(
    items: list[Item],
    greys: list[bool],
    groups: dict[str, Json],
    duplicates: dict[str, Json],
    tiny: int,
) -> list[str]:
    """Sentences on what is odd but usable."""
    said = []
    if duplicates["images"]:
        said.append(
            f"{duplicates['images']} images are copies of others; {duplicates['dropped']} were dropped, "
            "the rest lie in one split each"
        )
    for split in ("val", "test"):
        if shared := groups[f"train_and_{split}"]:
            said.append(
                f"{shared} groups have images in train and in {split}, as the source divides them: if they are "
                f"the same people, accuracy on {split} is flattered"
            )
    if tiny:
        said.append(f"{tiny} images have a side below {TINY_PX} px")
    if any(greys) and not all(greys):
        total, grey = Counter(item.label for item in items), Counter[str]()
        grey.update(item.label for item, is_grey in zip(items, greys, strict=True) if is_grey)
        shares = ", ".join(
            f"{label} {100 * grey[label] / total[label]:.0f} %" for label in sorted(total)[:SHOWN]
        )
        said.append(
            f"grey and coloured images are mixed (grey: {shares}); where the classes differ in that, a network "
            "can tell them by colour alone"
        )
    return said
