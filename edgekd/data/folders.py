"""A folder of images as a source. The names of folders say the class and the split.

    photos/train/cat/1.jpg     divided: train/, test/ and optionally val/, each with all classes
    photos/train/dog/a/2.png   images may lie deeper, in folders below their class
    photos/test/cat/3.jpg
    photos/manifest.csv        optional: which images belong to one group (patient)

    photos/cat/1.jpg           not divided: a folder for each class; the data stage then splits
    photos/dog/2.jpg

manifest.csv has the columns `path` and `patient_key` (or the column of `data.group_column`), for
example:

    path,patient_key
    train/cat/1.jpg,anna
"""

from __future__ import annotations

import dataclasses
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgekd.core.errors import DataError, UnknownName, nearest
from edgekd.core.files import is_file, reason, state_of
from edgekd.data import class_names, csv_text
from edgekd.data.file_kinds import IMAGE_SUFFIXES
from edgekd.data.folder_walk import FolderWalk, printable
from edgekd.data.images import header_size
from edgekd.data.sources import SPLITS, Item, SourceFacts

EXPECTED = (
    "expected train/CLASS/*.jpg and test/CLASS/*.jpg (val/ optional), or CLASS/*.jpg to be split, "
    "with at least two classes"
)

# Spellings of the splits that common data sets use.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

# A message lists this many names and counts the rest, so that it stays on one screen.
SHOWN = 10


@dataclasses.dataclass(frozen=True)
class _Found:
    """One image file: its path below the root, and what the folders above it say."""

    name: str
    label: str
    split: str | None


class FolderSource:
    """Images under a folder. The folder is walked once, when the object is made.

    What is left out, such as hidden files and files in other formats, is counted in
    `facts.ignored`; `facts.warnings` names what a user would miss. Links to folders below a class
    are left out, because they could run in circles. A link to a file is read like the file.

    Raises DataError when the folder is missing, is a file, holds a folder that cannot be read, or
    has another layout than `EXPECTED` says; UnknownName when manifest.csv has no column of the
    group column's name, unless that is the default name.
    """

    DEFAULT_GROUP_COLUMN = "patient_key"
    labels = None

    def __init__(self, root: Path, group_column: str = DEFAULT_GROUP_COLUMN) -> None:
        if not root.exists():
            raise DataError(f"{root}: no such folder", EXPECTED)
        if not root.is_dir():
            raise DataError(f"{root}: a file, not a folder", f"unpack it first; {EXPECTED}")
        self.root = root
        self.name = root.resolve().name or "data"
        self._walker = FolderWalk(root)
        self._warnings: list[str] = []
        self._paths: dict[str, Path] = {}
        found = self._walk()
        groups = _column(root / "manifest.csv", group_column)
        self._items = [
            Item(image.name, image.label, image.split, groups.get(_key(image.name)))
            for image in found
        ]
        without = [item.name for item in self._items if item.group is None]
        if groups and without:
            self._warnings.append(
                f"{len(without)} images have no {group_column} in manifest.csv: {shown(without)}"
            )
        self.facts = SourceFacts(
            licence="not stated: a folder carries no licence; check before you ship",
            source=self.name,
            synthetic=False,
            ignored=self._walker.left_out.counts,
            warnings=self._warnings + self._walker.left_out.warnings(),
        )

    def items(self) -> list[Item]:
        """Every image, sorted by name within each class."""
        return list(self._items)

    def load(self, item: Item) -> bytes:
        """The file's bytes. Raises DataError when it cannot be read."""
        try:
            return self._paths[item.name].read_bytes()
        except OSError as error:
            raise DataError(
                f"{item.name}: cannot be read ({reason(error)})",
                f"check the file under {self.root}",
            ) from error

    def column(self, name: str) -> dict[str, str]:
        """{image name: value} of a column of manifest.csv.

        Raises DataError without a manifest, and UnknownName when it has no such column.
        """
        values = _column(self.root / "manifest.csv", name, required=True)
        return {
            item.name: values[_key(item.name)] for item in self._items if _key(item.name) in values
        }

    def native_px(self) -> int:
        """The longest side in any image's header, in pixels; nothing is decoded."""
        with ThreadPoolExecutor(2) as threads:
            return max(map(max, threads.map(header_size, self._paths.values())), default=0)

    def fingerprint(self) -> str:
        """sha256 over the name, group, size and modification time of each file.

        Contents are not read.
        """
        digest = hashlib.sha256()
        for item in self._items:
            state = state_of(self._paths[item.name])
            digest.update(f"{item}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def _walk(self) -> list[_Found]:
        """Every image. Raises DataError for another layout than `EXPECTED` says."""
        top = self._walker.folders(self.root)
        splits = self._splits(top)
        if not splits:
            return self._walk_classes(self.root, top, None)
        beside = [folder.name for folder in top if folder not in splits.values()]
        if "train" not in splits:
            near = nearest("train", beside)
            hint = f"did you mean {near!r} to be train/? " if near else ""
            there = ", ".join(sorted(f"{folder.name}/" for folder in splits.values()))
            raise DataError(f"{self.root}: has {there} but no train/", hint + EXPECTED)
        if beside:
            self._warnings.append(f"folders beside train/ were not read: {shown(beside)}")
        found = []
        for split in SPLITS:
            if split in splits:
                classes = self._walker.folders(splits[split])
                found += self._walk_classes(splits[split], classes, split)
        self._check_classes(found)
        return found

    def _splits(self, top: Sequence[Path]) -> dict[str, Path]:
        """The folders that are splits. Raises DataError when two mean the same split."""
        splits: dict[str, Path] = {}
        for folder in top:
            split = SPLIT_NAMES.get(folder.name.lower())
            if split is None:
                continue
            if split in splits:
                raise DataError(
                    f"{self.root}: both {splits[split].name}/ and {folder.name}/ mean {split}",
                    "keep one of them",
                )
            splits[split] = folder
        return splits

    def _walk_classes(
        self, parent: Path, classes: Sequence[Path], split: str | None
    ) -> list[_Found]:
        """The images of each class folder. Raises DataError for less than two, or an empty one."""
        if not classes:
            loose = sum(path.suffix.lower() in IMAGE_SUFFIXES for path in parent.iterdir())
            what = f"holds {loose} images but no class folders" if loose else "has no class folders"
            raise DataError(
                f"{parent}: {what}",
                f"put the images of each class into a folder of its own; {EXPECTED}",
            )
        found = []
        for folder in classes:
            paths = {self._walker.name(path): path for path in self._walker.images(folder)}
            names = sorted(paths)
            self._paths |= paths
            if not names:
                skipped = self._walker.left_out.below(self._walker.name(folder))
                raise DataError(
                    f"{folder}: no images" + (f" ({skipped})" if skipped else ""),
                    f"add images ({', '.join(sorted(IMAGE_SUFFIXES))}) or remove the folder",
                )
            found += [_Found(name, printable(folder.name), split) for name in names]
        if len(classes) == 1:
            raise DataError(
                f"{parent}: one class only ({classes[0].name}); a classifier needs two", EXPECTED
            )
        return found

    def _check_classes(self, found: Sequence[_Found]) -> None:
        """Raise DataError when a split has other classes than train."""
        items = [Item(image.name, image.label, image.split) for image in found]
        class_names.checked(items, None, str(self.root))
        classes: dict[str | None, set[str]] = {}
        for image in found:
            classes.setdefault(image.split, set()).add(class_names.normal(image.label))
        for split, names in classes.items():
            more, less = sorted(names - classes["train"]), sorted(classes["train"] - names)
            if more or less:
                parts = ([f"only in {split}/: {shown(more)}"] if more else []) + (
                    [f"only in train/: {shown(less)}"] if less else []
                )
                near = nearest(more[0], less) if more and less else None
                hint = f"is {more[0]!r} the same as {near!r}? " if near else ""
                raise DataError(
                    f"{self.root}: train/ and {split}/ hold different classes; " + "; ".join(parts),
                    hint + "every split needs the same class folders, spelt alike",
                )


def shown(names: Sequence[str]) -> str:
    """The first names of a list, quoted where they have odd characters, and a count of the rest."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(name if name.isprintable() else repr(name) for name in names[:SHOWN]) + more


def _key(path: str) -> str:
    """A path as it is compared with manifest.csv: forward slashes, composed accents.

    macOS decomposes accents in file names.
    """
    return unicodedata.normalize("NFC", path.replace("\\", "/").removeprefix("./"))


def _column(manifest: Path, column: str, required: bool | None = None) -> Mapping[str, str]:
    """{path: value} of a column of manifest.csv; empty when there is none and none is required.

    `required`: None means that any column but the default group column is required. Raises
    DataError for a missing or broken manifest, and UnknownName for a missing column.
    """
    if required is None:
        required = column != FolderSource.DEFAULT_GROUP_COLUMN
    if not is_file(manifest):
        if required:
            raise DataError(
                f"{manifest}: no such file, but its column {column!r} was asked for",
                f"write a manifest.csv with the columns path and {column}",
            )
        return {}
    found = csv_text.read(manifest, str(manifest), "save it as comma-separated UTF-8, or remove it")
    columns = found.header
    if "path" not in columns:
        raise DataError(
            f"{manifest}: no column 'path' (found: {', '.join(columns) or 'nothing'})",
            "the first line must name the columns, for example path,split,label,patient_key",
        )
    if column not in columns:
        if required:
            raise UnknownName(
                "column of manifest.csv", column, columns, f"it has {', '.join(columns)}"
            )
        return {}
    rows = [dict(zip(columns, cells, strict=False)) for _, cells in found.rows]
    return {_key(row["path"]): row[column] for row in rows if row.get(column)}
