"""From a source of images to a Dataset: collect, decode, check, split, assemble.

    build_dataset(source, config)    every image at one size, with labels, splits and warnings

Nothing here is random beyond the seed: the same source, settings and seed give the same bytes.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from edgekd.core.artifact_rows import ImageRow
from edgekd.core.artifacts import Dataset
from edgekd.core.errors import DataError
from edgekd.core.records import UNSET, UnsetType, to_json
from edgekd.data import class_names, data_checks, pixel_rules, uncertain, unlabelled
from edgekd.data.data_checks import TINY_PX, Copies, GroupCounts
from edgekd.data.decoding import Progress, ReadImage, Reading, canvas, read_all
from edgekd.data.depth_record import Depth
from edgekd.data.folders import EXPECTED
from edgekd.data.left_out import places
from edgekd.data.sources import SPLITS, UNLABELLED, Item, Source, SourceFacts
from edgekd.data.splits import FEWEST, hold_out, hold_out_latest
from edgekd.data.uncertain import UncertainLabels
from edgekd.data.unlabelled import UnlabelledCounts
from edgekd.settings.recipe import DataConfig


class DatasetFacts(SourceFacts, frozen=True, kw_only=True):
    """`Dataset.facts`: what the source says, and what was found while the data set was built.

    `counts`: images of each class, or with each label, by split. `skipped`: a message for each
    image that could not be read. `labels`: "many" when an image may have several. `labels_by`:
    "network" when the labels are the answers of the float network. `depth`: how images of more
    than 8 bits became pixels, where there are any. `years`: the first and the last year of each
    split, where images have dates. `uncertain`: absent when no label is. `cache`: "none" when the
    pixels are not stored.
    """

    fit: str
    seed: int
    counts: dict[str, dict[str, int]]
    groups: GroupCounts
    duplicates: Copies
    skipped: list[str]
    labels: Literal["many"] | UnsetType = UNSET
    labels_by: Literal["network"] | UnsetType = UNSET
    depth: Depth | UnsetType = UNSET
    years: dict[str, list[int]] | UnsetType = UNSET
    unlabelled: UnlabelledCounts | UnsetType = UNSET
    uncertain: UncertainLabels | UnsetType = UNSET
    cache: Literal["none"] | UnsetType = UNSET


def build_dataset(
    source: Source, config: DataConfig, seed: int = 0, progress: Progress | None = None
) -> Dataset:
    """Read, decode, check and split a source. Each file is read once and hashed.

    Splits that the source brings are kept. A missing test split is taken from all images
    (`test_share`), a missing val split from train (`val_share`). Both are stratified by class, or
    by each of several labels, and take whole groups; copies of one image count as one group.

    Raises DataError with a list of images for: unreadable images (unless on_error="skip"), one
    image in two splits or two classes (unless duplicates="drop"), fewer than two classes, and a
    class with fewer than FEWEST images in a split (of several labels, each needs FEWEST images with
    it and FEWEST without it). What is unusual but usable goes into `facts["warnings"]`.
    """
    items, classes, unsure = _collect(source, config, seed)
    px = min(config.cache_px, source.native_px() or config.cache_px)
    rules = pixel_rules.from_settings(config, px)
    reading = read_all(source, items, rules, progress, canvas(config, len(items), px))
    if reading.failures and config.on_error == "refuse":
        raise data_checks.unreadable(source.name, reading.failures)

    labelled = [image for image in reading.images if image.split != UNLABELLED]
    labelled, copies = data_checks.without_copies(source.name, labelled, config.duplicates)
    divided = split(labelled, config, seed)
    labelled = uncertain.measurable(divided)
    data_checks.enough(source.name, labelled, classes)
    groups = data_checks.group_counts(labelled)

    extra = [image for image in reading.images if image.split == UNLABELLED]
    extra, apart = unlabelled.of_other_groups(extra, labelled)
    new, beside = unlabelled.without_copies(source.name, extra, labelled, config.duplicates)

    facts = DatasetFacts(
        licence=source.facts.licence,
        source=source.facts.source,
        synthetic=source.facts.synthetic,
        generator=source.facts.generator,
        groups_by=source.facts.groups_by,
        ignored=source.facts.ignored,
        warnings=source.facts.warnings
        + apart
        + class_names.look_alikes(source.items(), source.labels)
        + uncertain.warnings(config.uncertain, unsure, len(divided) - len(labelled))
        + _warnings(reading, labelled, groups, copies),
        fit=config.fit,
        seed=seed,
        counts=_counts(labelled),
        groups=groups,
        duplicates=copies,
        skipped=[failure.what for failure in reading.failures],
        labels=UNSET if source.labels is None else "many",
        depth=UNSET if reading.depth is None else reading.depth,
        years=_years(labelled) or UNSET,
        unlabelled=beside if extra else UNSET,
        uncertain=UncertainLabels(config.uncertain, unsure, len(divided) - len(labelled))
        if unsure
        else UNSET,
        cache="none" if config.cache == "none" else UNSET,
    )
    return assemble(source.name, classes, px, reading, labelled + new, facts)


def _collect(
    source: Source, config: DataConfig, seed: int
) -> tuple[list[Item], list[str], dict[str, int]]:
    """The items to read, those without labels last, the names of the classes in order, and how many
    labels of each name are uncertain.
    """
    every = class_names.checked(source.items(), source.labels, source.name)
    unsure = uncertain.counts(every)
    every = uncertain.decided(every, config.uncertain, source.name)
    items = limited([item for item in every if item.split != UNLABELLED], config.limit, seed)
    classes = list(dict.fromkeys(map(class_names.normal, source.labels or ())))
    classes = classes or sorted({item.label for item in items})
    if len(classes) < 2:
        alike = "".join(f" ({said})" for said in class_names.look_alikes(source.items()))
        raise DataError(
            f"{source.name}: {len(classes)} classes{alike}; a classifier needs at least two",
            EXPECTED,
        )
    return items + [item for item in every if item.split == UNLABELLED], classes, unsure


def limited(items: list[Item], limit: int, seed: int) -> list[Item]:
    """At most `limit` images of each class and split (0: all), drawn by the seed, in order."""
    if not limit:
        return items
    cells: dict[tuple[str | None, str], list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        cells[item.split, item.label].append(index)
    rng = np.random.default_rng([seed, limit])
    chosen = {int(index) for cell in cells.values() for index in rng.permutation(cell)[:limit]}
    return [item for index, item in enumerate(items) if index in chosen]


def training_images(items: Sequence[Item], config: DataConfig, seed: int) -> int:
    """How many images training will see, as far as that is known before an image is read.

    Images that turn out to be duplicates, or cannot be read, still count.
    """
    unlabelled = sum(item.split == UNLABELLED for item in items)
    kept = limited([item for item in items if item.split != UNLABELLED], config.limit, seed)
    number = float(sum(item.split in ("train", None) for item in kept))
    fewest = FEWEST * len({item.label for item in kept})
    for into, share in (("test", config.test_share), ("val", config.val_share)):
        if all(item.split != into for item in kept):
            number -= max(share * number, fewest)
    return round(number) + unlabelled


def split(
    images: list[ReadImage], config: DataConfig, seed: int, parts: Sequence[str] = ("test", "val")
) -> list[ReadImage]:
    """The images with their splits; those of `parts` are taken where the source has none."""
    groups = _tied(images)
    for into, share, stream in (
        ("test", config.test_share, seed),
        ("val", config.val_share, seed + 1),
    ):
        if into not in parts or any(image.split == into for image in images):
            continue
        train = [image for image in images if image.split == "train"]
        tied = [groups[image.row] for image in train]
        held_out = (
            hold_out_latest(_strata(train), tied, _dates(train), share, into)
            if config.split == "time"
            else hold_out(_strata(train), tied, share, stream, into)
        )
        moved = {train[index].row for index in held_out}
        images = [
            dataclasses.replace(image, split=into) if image.row in moved else image
            for image in images
        ]
    return images


def _dates(images: Sequence[ReadImage]) -> list[dt.date]:
    """When each image was made. Raises DataError when that is not known of all."""
    found = [image.item.date for image in images if image.item.date is not None]
    without = [image.item.name for image in images if image.item.date is None]
    if without:
        raise DataError(
            f"data.split is time, and {len(without)} images have no date (StudyDate of DICOM): "
            f"{places(without)}",
            "build with --set data.split=random",
        )
    return found


def _years(images: Sequence[ReadImage]) -> dict[str, list[int]]:
    """The first and the last year of each split. Days would help to find a person."""
    found: dict[str, list[int]] = {}
    for split in SPLITS:
        own = [image.item.date for image in images if image.split == split and image.item.date]
        if own:
            found[split] = [min(own).year, max(own).year]
    return found


def _strata(images: Sequence[ReadImage]) -> list[tuple[str, ...]]:
    """What each image counts for in a stratified split.

    Having no label is a stratum of its own, unless too few images have none to divide them. An
    image with an uncertain label counts for nothing: val and test leave it out.
    """
    findings = [image.item.findings for image in images if not image.item.uncertain]
    enough_without = findings.count(()) >= 2 * FEWEST
    return [
        ()
        if image.item.uncertain
        else image.item.counted
        if image.item.findings is None or enough_without
        else image.item.findings
        for image in images
    ]


def _tied(images: Sequence[ReadImage]) -> dict[int, str]:
    """The group of each image, by row: its own group or itself, merged where they share a copy."""
    names = {image.row: _group_or_itself(image.item) for image in images}
    parent = {name: name for name in names.values()}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first: dict[str, str] = {}
    for image in images:
        name = names[image.row]
        one, other = sorted((root(name), root(first.setdefault(image.sha256, name))))
        parent[other] = one
    return {row: root(name) for row, name in names.items()}


def _group_or_itself(item: Item) -> str:
    """A name for an image's group; the prefixes keep groups and images apart."""
    return f"g:{item.group}" if item.group is not None else f"i:{item.name}"


def _counts(images: Sequence[ReadImage]) -> dict[str, dict[str, int]]:
    """How many images of each class, or with each label, each split holds."""
    counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for image in images:
        counts[image.split].update(image.item.counted)
    return {split: dict(sorted(found.items())) for split, found in counts.items()}


def _warnings(
    reading: Reading, labelled: Sequence[ReadImage], groups: GroupCounts, copies: Copies
) -> list[str]:
    """Sentences on what is unusual but usable."""
    tiny = sum(image.shortest < TINY_PX for image in reading.images)
    said = data_checks.warnings(labelled, groups, copies, tiny)
    extra = [image for image in reading.images if image.split == UNLABELLED]
    coloured = sum(not image.grey for image in extra)
    if coloured and all(image.grey for image in reading.images if image.split != UNLABELLED):
        said.append(
            f"{coloured} images without a label are coloured, and those with one are grey: "
            "is that the same kind?"
        )
    if reading.failures:
        names = [failure.what.partition(": ")[0] for failure in reading.failures]
        said.append(f"{len(names)} images that cannot be read were skipped: {places(names)}")
    return said + reading.warnings


def assemble(
    name: str,
    classes: list[str],
    px: int,
    reading: Reading,
    images: Sequence[ReadImage],
    facts: DatasetFacts,
) -> Dataset:
    """The artifact: the pixels of the images that stay, and a row for each."""
    reading.canvas.keep([image.row for image in images])
    numbers = {name: index for index, name in enumerate(classes)}
    rows = [_row(image, numbers, facts) for image in images]
    filled = reading.canvas
    return Dataset(name, classes, px, filled.channels, rows, to_json(facts), filled.blob())


def _row(image: ReadImage, numbers: Mapping[str, int], facts: DatasetFacts) -> ImageRow:
    row: ImageRow = {
        "name": image.item.name,
        "sha256": image.sha256,
        "split": image.split,
        "group": image.item.group,
        "label": _label(image.item, numbers),
    }
    if image.item.uncertain and not isinstance(facts.uncertain, UnsetType):
        row["uncertain"] = uncertain.targets(image, facts.uncertain.policy, numbers, facts.seed)
    return row


def _label(item: Item, numbers: Mapping[str, int]) -> int | list[int] | None:
    """The number of the class, the numbers of the labels, or None for an image without a label."""
    if item.split == UNLABELLED or (item.findings is None and not item.label):
        return None
    if item.findings is None:
        return numbers[item.label]
    return [numbers[name] for name in item.findings]
