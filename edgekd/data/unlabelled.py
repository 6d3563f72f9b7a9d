"""A folder of images without labels beside a source (`data.unlabelled`).

    photos/a.jpg  photos/2024/b.png  photos/2024/july/c.webp       any depth, any names

The teacher's answers take the place of the missing labels. These images join the training images
of distillation only. They are not used to train the teacher, to calibrate, or to measure accuracy.
Where classes are drawn evenly, an image counts for the class that the teacher sees in it. An image
that is also in val or test would leak into training, and is refused.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgekd.core import files
from edgekd.core.errors import DataError
from edgekd.core.files import state_of
from edgekd.core.records import Record
from edgekd.data import image_bytes
from edgekd.data.data_checks import Policy, lines
from edgekd.data.decoding import ReadImage
from edgekd.data.file_kinds import IMAGE_SUFFIXES
from edgekd.data.folder_walk import FolderWalk
from edgekd.data.images import header_size
from edgekd.data.left_out import places
from edgekd.data.sources import UNLABELLED, Item, Source

# Prefix of these images' names, so that none is equal to the name of a labelled image.
PREFIX = "unlabelled/"


class WithUnlabelled:
    """A source together with the images in a folder, at any depth; hidden files are left out.

    Raises DataError when `folder` is not a folder, holds a folder that cannot be read, or holds no
    images.
    """

    def __init__(self, source: Source, folder: Path) -> None:
        if not files.is_folder(folder, "data.unlabelled"):
            raise DataError(
                f"data.unlabelled: {folder} is not a folder",
                "name a folder of images, with or without folders inside",
            )
        self.source, self.name, self.labels = source, source.name, source.labels
        walker = FolderWalk(folder)
        found = sorted(walker.images(folder))
        if not found:
            raise DataError(
                f"data.unlabelled: {folder} holds no images",
                f"images end in {', '.join(sorted(IMAGE_SUFFIXES))}",
            )
        self.folder = folder
        self._paths = {PREFIX + walker.name(path): path for path in found}
        self.facts = msgspec.structs.replace(
            source.facts, warnings=source.facts.warnings + walker.left_out.warnings()
        )

    def items(self) -> list[Item]:
        """The source's images, then the images without labels."""
        return [*self.source.items(), *(Item(name, "", UNLABELLED) for name in self._paths)]

    def file(self, item: Item) -> Path | None:
        """Where an image lies; None when the source has no files."""
        if item.split == UNLABELLED:
            return self._paths[item.name]
        find = getattr(self.source, "file", None)
        found: Path | None = None if find is None else find(item)
        return found

    def load(self, item: Item) -> bytes | NDArray[np.uint8]:
        """The file's bytes, or what the source loads. Raises DataError when it cannot be read."""
        if item.split != UNLABELLED:
            return self.source.load(item)
        return image_bytes.read(self._paths[item.name], item.name, str(self.folder))

    def native_px(self) -> int:
        """The longest side of any image in pixels; 0 when the source does not know its own."""
        native = self.source.native_px()
        if not native:
            return 0
        with ThreadPoolExecutor(2) as threads:
            return max(native, *map(max, threads.map(header_size, self._paths.values())))

    def fingerprint(self) -> str:
        """The source's fingerprint, with the name, size and modification time of each file."""
        digest = hashlib.sha256(self.source.fingerprint().encode())
        for name, path in self._paths.items():
            state = state_of(path)
            digest.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def column(self, name: str) -> dict[str, str]:
        """A column of the source's own table. Raises DataError when the source has no table."""
        read = getattr(self.source, "column", None)
        if read is None:
            raise DataError(
                f"{self.name} has no table with a column {name!r}",
                "give a folder with a manifest.csv, or a CSV",
            )
        found: dict[str, str] = read(name)
        return found


class UnlabelledCounts(Record, frozen=True):
    """How many images without labels are used, and how many were left out and why.

    `in_val_or_test`, `in_train`: copies of labelled images. `repeated`: copies of each other.
    """

    images: int
    in_val_or_test: int
    in_train: int
    repeated: int


def of_other_groups(
    images: Sequence[ReadImage], labelled: Sequence[ReadImage]
) -> tuple[list[ReadImage], list[str]]:
    """The images without labels whose group (a patient) is in neither val nor test, and a sentence
    about the others: to train on them would flatter the test.
    """
    held = {image.item.group for image in labelled if image.split in ("val", "test")} - {None}
    stay = [image for image in images if image.item.group not in held]
    left = [image.item.name for image in images if image.item.group in held]
    said = f"{len(left)} images without a label are of groups in val or test and are not used"
    return stay, [f"{said}: {places(left)}"] if left else []


def without_copies(
    name: str, images: Sequence[ReadImage], labelled: Sequence[ReadImage], policy: Policy
) -> tuple[list[ReadImage], UnlabelledCounts]:
    """The images without labels that stay, each of them once, and counts of those that do not.

    A copy of a training image or of another image without a label adds nothing. A copy of an image
    in val or test is a leak: it is left out too, or, under the policy "refuse", raises DataError.
    """
    held: dict[str, list[ReadImage]] = defaultdict(list)
    for image in labelled:
        held[image.sha256].append(image)
    leaks = [
        image
        for image in images
        if any(other.split in ("val", "test") for other in held.get(image.sha256, ()))
    ]
    if leaks and policy == "refuse":
        equal = [f"{image.item.name!r} = {held[image.sha256][0].item.name!r}" for image in leaks]
        raise DataError(
            f"{name}: {len(leaks)} images without a label also lie in val or test, so the test "
            f"would measure memory (equal sha256):{lines(equal)}",
            "take them out of data.unlabelled, or let --set data.duplicates=drop do it",
        )
    new = [image for image in images if image.sha256 not in held]
    first: dict[str, ReadImage] = {}
    for image in new:
        first.setdefault(image.sha256, image)
    stay = list(first.values())
    return stay, UnlabelledCounts(
        images=len(stay),
        in_val_or_test=len(leaks),
        in_train=len(images) - len(new) - len(leaks),
        repeated=len(new) - len(stay),
    )
