"""A folder of images as a source. The names of folders say the class and the split.

    photos/train/cat/1.jpg     divided: train/, test/ and optionally val/, each with all classes
    photos/train/dog/a/2.png   images may lie deeper, in folders below their class
    photos/test/cat/3.jpg
    photos/manifest.csv        optional: which images belong to one group (patient)

    photos/cat/1.jpg           not divided: a folder for each class; the data stage then splits
    photos/dog/2.jpg

manifest.csv has the column `path` and further facts of each image, such as its patient (`manifest`,
`grouping`). A folder that holds one folder alone, as unpacked archives do, stands for that folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgekd.core.errors import DataError, nearest
from edgekd.core.files import is_folder, listed, resolved, state_of
from edgekd.core.records import UNSET
from edgekd.data import class_names, grouping, image_bytes, manifest
from edgekd.data.file_kinds import IMAGE_SUFFIXES, is_litter
from edgekd.data.folder_walk import FolderWalk, printable
from edgekd.data.images import header_size
from edgekd.data.shown_names import shown
from edgekd.data.sources import SPLIT_NAMES, SPLITS, Item, SourceFacts
from edgekd.settings.recipe import DataConfig

EXPECTED = (
    "expected train/CLASS/*.jpg and test/CLASS/*.jpg (val/ optional), or CLASS/*.jpg to be split, "
    "with at least two classes"
)


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
    name that data.group_column names.
    """

    labels = None

    def __init__(self, root: Path, config: DataConfig | None = None) -> None:
        if not root.exists():
            raise DataError(f"{root}: no such folder", EXPECTED)
        if not root.is_dir():
            raise DataError(f"{root}: a file, not a folder", f"unpack it first; {EXPECTED}")
        self.root = _unwrapped(root)
        self.name = printable(resolved(root).name) or "data"
        self._walker = FolderWalk(self.root)
        self._warnings: list[str] = []
        self._paths: dict[str, Path] = {}
        found = self._walk()
        names = [image.name for image in found]
        self._columns = manifest.aligned(self.root / manifest.NAME, names)
        grouped = self._grouped(found, config or DataConfig())
        self._items = [
            Item(image.name, image.label, image.split, tied)
            for image, tied in zip(found, grouped.groups, strict=True)
        ]
        self._warnings += grouped.warnings
        self.facts = SourceFacts(
            licence="not stated: a folder carries no licence; check before you ship",
            source=self.name,
            synthetic=False,
            groups_by=grouped.by or UNSET,
            ignored=self._walker.left_out.counts,
            warnings=self._warnings + self._walker.left_out.warnings(),
        )

    def items(self) -> list[Item]:
        """Every image, sorted by name within each class."""
        return list(self._items)

    def file(self, item: Item) -> Path:
        """Where an image lies."""
        return self._paths[item.name]

    def load(self, item: Item) -> bytes:
        """The file's bytes. Raises DataError when it cannot be read."""
        return image_bytes.read(self._paths[item.name], item.name, str(self.root))

    def column(self, name: str) -> dict[str, str]:
        """{image name: value} of a column of manifest.csv.

        Raises DataError without a manifest, and UnknownName when it has no such column.
        """
        cells = self._columns[manifest.required(self.root / manifest.NAME, self._columns, name)]
        return {
            item.name: cell for item, cell in zip(self._items, cells, strict=True) if cell.strip()
        }

    def _grouped(self, found: Sequence[_Found], config: DataConfig) -> grouping.Grouping:
        """The groups: by a column of manifest.csv, or by folders below the classes."""
        path = self.root / manifest.NAME
        if config.group_column not in ("", *grouping.AUTOMATIC) and not config.group_pattern:
            manifest.required(path, self._columns, config.group_column)
        depth = 1 if found[0].split is None else 2
        return grouping.group(
            [image.name for image in found],
            self._columns,
            config,
            manifest.NAME,
            taken=[name for name in self._columns if name in manifest.PATHS],
            below=["/".join(image.name.split("/")[depth:]) for image in found],
            nested=f"^{'[^/]+/' * depth}([^/]+)/",
        )

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
                _csv_beside(parent)
                + f"put the images of each class into a folder of its own; {EXPECTED}",
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


def _csv_beside(folder: Path) -> str:
    """The beginning of a next step: the CSV in a folder that may name the images' classes."""
    found = [path for path in listed(folder) if path.suffix.lower() == ".csv"]
    return f"if {found[0].name} holds the labels, --data {found[0]}; else " if found else ""


def _unwrapped(root: Path) -> Path:
    """The folder inside a folder that holds nothing else: unpacked archives often have one.

    A folder called like a split stays, and so does one beside a manifest.csv or beside images.
    """
    inside = [
        path
        for path in listed(root)
        if not path.name.startswith((".", "__")) and not is_litter(path.name)
    ]
    folders = [path for path in inside if is_folder(path)]
    others = [
        path
        for path in inside
        if path.suffix.lower() in IMAGE_SUFFIXES or path.name == manifest.NAME
    ]
    if len(folders) != 1 or others or folders[0].name.lower() in SPLIT_NAMES:
        return root
    if not any(is_folder(path) for path in listed(folders[0])):
        return root
    return _unwrapped(folders[0])
