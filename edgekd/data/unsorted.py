"""Images without labels of their own, for measuring a network against its own float answers.

photos/a.jpg  photos/2024/b.png       a folder of images, at any depth
cats/train/... dogs/...               a labelled source whose classes are not the network's
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.core.artifact_rows import ImageRow
from edgekd.core.artifacts import Dataset, Json
from edgekd.core.errors import DataError
from edgekd.core.files import expanded, is_folder, listed
from edgekd.core.records import UNSET
from edgekd.data import (
    data_checks,
    dataset_builder,
    dicom_source,
    image_bytes,
    pixel_rules,
    unlabelled,
)
from edgekd.data.chest_xrays import formats
from edgekd.data.decoding import Progress, canvas, read_all
from edgekd.data.file_kinds import IMAGE_SUFFIXES
from edgekd.data.folder_walk import FolderWalk
from edgekd.data.images import header_size
from edgekd.data.sources import SPLIT_NAMES, SPLITS, Item, Source, SourceFacts
from edgekd.settings.recipe import DataConfig

# With fewer images no range can be learned, and no agreement be measured: at 0.5 % of wrong
# answers, 16 images for a test say nothing, but show a network that is broken.
FEWEST = 16

# Share of the images that measure agreement: the others have no labels to train on, and 256 are
# enough to calibrate with.
MEASURED = 0.5

# What a reader has to know of figures that rest on no labels.
AGREEMENT = (
    "the images have no labels of this network's classes: every figure is the agreement with the "
    "float network's own answers, and not its accuracy"
)


class FolderOfImages:
    """Every image in a folder, at any depth; hidden files are left out.

    Raises DataError when the folder holds no images.
    """

    labels = None

    def __init__(self, folder: Path) -> None:
        walker = FolderWalk(folder)
        found = sorted(walker.images(folder))
        if not found:
            raise DataError(
                f"{folder}: no images in it",
                f"name a folder of images; they end in {', '.join(sorted(IMAGE_SUFFIXES))}",
            )
        self._folder = folder
        self.name = folder.resolve().name or "images"
        self._paths = {walker.name(path): path for path in found}
        self.facts = SourceFacts(
            licence="not stated: a folder carries no licence; check before you ship",
            source=self.name,
            synthetic=False,
            warnings=walker.left_out.warnings(),
        )

    def items(self) -> list[Item]:
        """Every image, without a label."""
        return [Item(name, "") for name in self._paths]

    def file(self, item: Item) -> Path:
        """Where an image lies."""
        return self._paths[item.name]

    def load(self, item: Item) -> bytes | NDArray[np.uint8]:
        """The file's bytes. Raises DataError when it cannot be read."""
        return image_bytes.read(self._paths[item.name], item.name, str(self._folder))

    def native_px(self) -> int:
        """The longest side of any image in pixels."""
        return max(max(header_size(path)) for path in self._paths.values())

    def fingerprint(self) -> str:
        """The name, size and modification time of each file, hashed."""
        digest = hashlib.sha256()
        for name, path in self._paths.items():
            state = path.stat()
            digest.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def build(
    source: Source,
    config: DataConfig,
    classes: list[str],
    seed: int = 0,
    progress: Progress | None = None,
    ahead_px: int | None = None,
) -> Dataset:
    """The images of a source without their labels, split into train, val and test.

    `classes`: the names of what a network answers; no image has one of them yet. Without classes
    the images are to learn features from, and none is put into test. `ahead_px`: the size at which
    they will be asked for next (`decoding.decoded`). Raises DataError for fewer than FEWEST images,
    and for images as `build_dataset` does.
    """
    items = dataset_builder.limited(source.items(), config.limit, seed)
    native = source.native_px()
    px = min(config.cache_px, native) if native else config.cache_px
    rules = pixel_rules.from_settings(config, px)
    reading = read_all(source, items, rules, progress, canvas(config, len(items), px), ahead_px)
    if reading.failures and config.on_error == "refuse":
        raise data_checks.unreadable(source.name, reading.failures)
    images, copies = data_checks.without_copies(source.name, reading.images, config.duplicates)
    if len(images) < FEWEST:
        use = (
            "calibrate a network and to test it, and 128 or more are advised"
            if classes
            else "learn features from, and thousands are advised"
        )
        raise DataError(
            f"{source.name}: {len(images)} images; at least {FEWEST} are needed to {use}",
            "add images of the kind that the network will see",
        )
    measured = dataclasses.replace(config, test_share=max(config.test_share, MEASURED))
    parts = ("test", "val") if classes else ("val",)
    images = dataset_builder.split(images, measured, seed, parts)
    groups = data_checks.group_counts(images)
    facts = dataset_builder.DatasetFacts(
        licence=source.facts.licence,
        source=source.facts.source,
        synthetic=source.facts.synthetic,
        generator=source.facts.generator,
        cache="none" if config.cache == "none" else UNSET,
        groups_by=source.facts.groups_by,
        ignored=source.facts.ignored,
        warnings=[*source.facts.warnings, *reading.warnings, *([AGREEMENT] if classes else [])],
        fit=config.fit,
        seed=seed,
        counts={},
        groups=groups,
        duplicates=copies,
        skipped=[failure.what for failure in reading.failures],
        depth=UNSET if reading.depth is None else reading.depth,
        labels_by="network" if classes else UNSET,
    )
    return dataset_builder.assemble(source.name, classes, px, reading, images, facts)


def without_classes(config: DataConfig) -> Source | None:
    """The images in the folder `config.source`, with those of `config.unlabelled`, or None unless
    it is one without classes: it has fewer than two folders inside, or images beside them.

    A folder with train/ or test/ in it is divided, and has classes. Raises DataError.
    """
    folder = expanded(config.source, "--data")
    if (
        not is_folder(folder, "--data")
        or formats.find_in(folder) is not None
        or _has_classes(folder)
    ):
        return None
    source: Source = FolderOfImages(folder)
    if config.unlabelled:
        further = expanded(config.unlabelled, "data.unlabelled")
        source = unlabelled.WithUnlabelled(source, further)
    return dicom_source.wrapped(source, patients=config.group_column != "")


def _has_classes(folder: Path) -> bool:
    inside = [path for path in listed(folder) if not path.name.startswith((".", "__"))]
    folders = [path for path in inside if is_folder(path)]
    if any(path.name.lower() in SPLIT_NAMES for path in folders):
        return True
    loose = any(path.suffix.lower() in IMAGE_SUFFIXES for path in inside)
    return len(folders) >= 2 and not loose


def counted(found: Dataset, rows: Sequence[ImageRow]) -> dict[str, Json]:
    """The data set's facts with the images of each class counted, as the network answers them.

    Images without an answer count for none.
    """
    counts: dict[str, Json] = {}
    for split in SPLITS:
        number = Counter(
            row["label"] for row in rows if row["split"] == split and row["label"] is not None
        )
        counts[split] = {found.classes[label]: number[label] for label in sorted(number)}
    return {**found.facts, "counts": counts}


def without_labels(source: Source) -> Source:
    """The source with labels left out of its items."""
    return _WithoutLabels(source)


@dataclasses.dataclass
class _WithoutLabels:
    """A source whose labels are not the network's."""

    source: Source

    def __post_init__(self) -> None:
        self.name, self.facts, self.labels = self.source.name, self.source.facts, None

    def items(self) -> list[Item]:
        """The source's items, without labels."""
        return [
            dataclasses.replace(item, label="", findings=None, split=item.split)
            for item in self.source.items()
        ]

    def load(self, item: Item) -> bytes | NDArray[np.uint8]:
        """As the source loads it."""
        return self.source.load(item)

    def native_px(self) -> int:
        """As the source says."""
        return self.source.native_px()

    def fingerprint(self) -> str:
        """The source's, marked."""
        return f"without labels {self.source.fingerprint()}"
