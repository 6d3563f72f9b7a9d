"""A folder of images without labels beside a source: the teacher says what they show, and training takes its word.

They join the images that distillation trains on, and nothing else: not the teacher's own training, no calibration, no figure.
Where classes are drawn evenly, they count for the class that the teacher sees in them. An image that also lies in val or
test would leak, and is refused.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.core.artifacts import Json
from edgekd.core.errors import DataError
from edgekd.data.folders import SHOWN, printable
from edgekd.data.images import IMAGE_SUFFIXES, header_size
from edgekd.data.sources import UNLABELLED, Item, Source

PREFIX = "unlabelled/"  # before their names, so that none is also a labelled image's


class WithUnlabelled:
    """A source and the images under a folder, at any depth. Raises DataError for a folder that is none or holds none."""

    def __init__(self, source: Source, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(
                f"data.unlabelled: {folder} is no folder",
                "name a folder of images, in folders or not",
            )
        self.source, self.name, self.labels = source, source.name, source.labels
        found = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES
            and path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )
        if not found:
            raise DataError(
                f"data.unlabelled: {folder} holds no images",
                f"images end in {', '.join(sorted(IMAGE_SUFFIXES))}",
            )
        self.folder = folder
        self._paths = {
            PREFIX + printable(path.relative_to(folder).as_posix()): path for path in found
        }
        self.facts: dict[str, Json] = {**source.facts}

    def items(self) -> list[Item]:
        """The source's images, and then these."""
        return [*self.source.items(), *(Item(name, "", UNLABELLED) for name in self._paths)]

    def load(self, item: Item) -> bytes | NDArray[np.uint8]:
        """As the source does. Raises DataError when a file cannot be read (any more)."""
        if item.split != UNLABELLED:
            return self.source.load(item)
        try:
            return self._paths[item.name].read_bytes()
        except OSError as error:
            raise DataError(
                f"{item.name}: cannot be read ({error.strerror})",
                f"check the file under {self.folder}",
            ) from error

    def native_px(self) -> int:
        """The longest side of any image; 0 where the source does not know."""
        native = self.source.native_px()
        with ThreadPoolExecutor(2) as threads:
            return (
                max(native, *(max(size) for size in threads.map(header_size, self._paths.values())))
                if native
                else 0
            )

    def fingerprint(self) -> str:
        """The source's, with name, size and time of change of each of these."""
        digest = hashlib.sha256(self.source.fingerprint().encode())
        for name, path in self._paths.items():
            state = path.stat()
            digest.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def column(self, name: str) -> dict[str, str]:
        """A column of the source's own table. Raises DataError where it has none."""
        read = getattr(self.source, "column", None)
        if read is None:
            raise DataError(
                f"{self.name} has no table with a column {name!r}",
                "give a folder with a manifest.csv, or a CSV",
            )
        found: dict[str, str] = read(name)
        return found


def copies(
    name: str, items: Sequence[Item], hashes: Sequence[str], splits: Sequence[str], policy: str
) -> tuple[set[int], dict[str, Json]]:
    """Which rows without a label to drop, and the counts. Those of an image in val or test are a leak, which "refuse" raises
    as DataError; copies of train's images and of each other teach nothing new.
    """
    held: dict[str, list[int]] = defaultdict(list)
    for row, split in enumerate(splits):
        if split != UNLABELLED:
            held[hashes[row]].append(row)
    own = [row for row, split in enumerate(splits) if split == UNLABELLED]
    leaks = [
        row for row in own if any(splits[other] in ("val", "test") for other in held[hashes[row]])
    ]
    if leaks and policy == "refuse":
        listed = "\n  ".join(
            f"{items[row].name!r} = {items[held[hashes[row]][0]].name!r}" for row in leaks[:SHOWN]
        )
        more = f"\n  and {len(leaks) - SHOWN} more" if len(leaks) > SHOWN else ""
        raise DataError(
            f"{name}: {len(leaks)} images without a label lie in val or test, too, so the test would measure "
            f"memory (equal sha256):\n  {listed}{more}",
            "take them out of data.unlabelled, or let --set data.duplicates=drop do it",
        )
    known = [row for row in set(own).difference(leaks) if held[hashes[row]]]
    new = sorted(set(own).difference(leaks, known))
    first = {hashes[row]: row for row in reversed(new)}
    twice = [row for row in new if first[hashes[row]] != row]
    return {*leaks, *known, *twice}, {
        "images": len(own) - len(leaks) - len(known) - len(twice),
        "in_val_or_test": len(leaks),
        "in_train": len(known),
        "repeated": len(twice),
    }
