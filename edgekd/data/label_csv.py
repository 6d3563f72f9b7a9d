"""A CSV of labels as a source, one row for each image. Its header decides what it means.

A column for each label, with 1 or 0 (empty means 0); an image may have none or several:

    image,Mass,Edema
    a.png,1,0

The labels in one cell, separated by "|"; empty or "No Finding" for none:

    image,labels
    a.png,Mass|Edema

One class for each image:

    image,label
    a.png,cat

Two further columns are optional: `split` (train, val or test) and `group` (for example a patient,
whose images stay in one split). The header of ChestX-ray14 (Image Index, Finding Labels, Patient
ID) is accepted as it is.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from edgekd.core.errors import DataError, UnknownName
from edgekd.core.files import expanded, is_file, is_folder, reason, state_of
from edgekd.data import tables
from edgekd.data.folders import SHOWN, SPLIT_NAMES, FolderSource, shown
from edgekd.data.images import header_size
from edgekd.data.sources import SPLITS, Item, SourceFacts, together

# ChestX-ray14's names of columns.
ALIASES = {"Image Index": "image", "Finding Labels": "labels", "Patient ID": "group"}
_YES = {"1", "1.0"}
# CheXpert writes floats, and leaves a cell empty where a report does not mention a finding.
_NO = {"0", "0.0", ""}
# CheXpert's values for an uncertain finding.
_UNCERTAIN = {"-1", "-1.0"}
# A cell of labels that means none, in lower case.
_NONE = {"", "no finding"}


class CsvSource:
    """Images and labels that a CSV names. The CSV is read once, when the object is made.

    `images`: the folder that the names are relative to; "" means the CSV's own. `wanted`: the
    labels to use, in this order; () means all.

    Raises DataError, naming file and line, for a value that is no label, an unknown split, an image
    that is missing or named twice, and for a label that no image or every image has. Raises
    UnknownName for a label or a group column that the CSV does not have.
    """

    def __init__(
        self, path: Path, group_column: str, images: str = "", wanted: Sequence[str] = ()
    ) -> None:
        self.path, self.root = path, expanded(images, "data.images") if images else path.parent
        if images and not is_folder(self.root, "data.images"):
            raise DataError(
                f"data.images: {self.root} is not a folder",
                "name the folder that the CSV's names are relative to",
            )
        self.name = path.stem
        self._rows = tables.numbered(path, ("image",), "labels", ALIASES)
        self._header = list(self._rows[0][1])
        group = next((name for name in ("group", group_column) if name in self._header), "")
        if not group and group_column != FolderSource.DEFAULT_GROUP_COLUMN:
            raise self._unknown_column(group_column)
        self.labels: list[str] | None = None
        said = self._read_labels(wanted, {"image", "split", group})
        self._items = [
            self._item(line, row, names, group)
            for (line, row), names in zip(self._rows, said, strict=True)
        ]
        self._check()
        self.facts = SourceFacts(
            licence="not stated: a CSV carries no licence; check before you ship",
            source=self.name,
            synthetic=False,
        )

    def items(self) -> list[Item]:
        """Every image, in the CSV's order."""
        return list(self._items)

    def load(self, item: Item) -> bytes:
        """The file's bytes. Raises DataError when it cannot be read."""
        try:
            return (self.root / item.name).read_bytes()
        except OSError as error:
            raise DataError(
                f"{item.name}: cannot be read ({reason(error)})",
                f"check the file under {self.root}",
            ) from error

    def column(self, name: str) -> dict[str, str]:
        """{image name: value} of any column. Raises UnknownName for a missing one."""
        if name not in self._header:
            raise self._unknown_column(name)
        return {
            item.name: row[name]
            for item, (_, row) in zip(self._items, self._rows, strict=True)
            if row[name]
        }

    def native_px(self) -> int:
        """The longest side in any image's header, in pixels; nothing is decoded."""
        paths = (self.root / item.name for item in self._items)
        with ThreadPoolExecutor(2) as threads:
            return max(map(max, threads.map(header_size, paths)), default=0)

    def fingerprint(self) -> str:
        """sha256 over each image's name, labels, split, group, size and modification time."""
        digest = hashlib.sha256(repr(self.labels).encode())
        for item in self._items:
            state = state_of(self.root / item.name)
            digest.update(f"{item}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def _unknown_column(self, name: str) -> UnknownName:
        return UnknownName(
            f"column of {self.path}", name, self._header, f"it has {', '.join(self._header)}"
        )

    def _read_labels(self, wanted: Sequence[str], own: set[str]) -> list[tuple[str, ...]]:
        """The labels, or the one class, of each row; sets `labels` when there may be several.

        `own`: columns that are no labels in the layout with a column for each label.
        """
        if "labels" in self._header:
            said = [_listed(row["labels"]) for _, row in self._rows]
            self.labels = self._chosen(wanted, sorted({name for names in said for name in names}))
            return said
        if "label" in self._header:
            if wanted:
                raise DataError(
                    f"data.labels names labels, but {self.path} has one class for each image (its "
                    "column 'label')",
                    "leave data.labels out",
                )
            return [(row["label"].strip(),) for _, row in self._rows]
        self.labels = self._chosen(wanted, [name for name in self._header if name not in own])
        return [self._marked(line, row, every=not wanted) for line, row in self._rows]

    def _marked(self, line: int, row: dict[str, str], every: bool) -> tuple[str, ...]:
        """The labels whose column says 1. `every`: whether all columns were taken for labels."""
        present = []
        for name in self.labels or []:
            value = row[name].strip()
            if value in _YES:
                present.append(name)
            elif value not in _NO:
                step = "correct the line"
                if value in _UNCERTAIN:
                    step = "decide each uncertain one, 1 or 0"
                elif every:
                    step = (
                        f"if {name!r} is no label, say which columns are: "
                        '--set \'data.labels=["A", "B"]\''
                    )
                raise DataError(
                    f"labels {self.path}, line {line}: {name} is {value!r}, expected 1, 0 or "
                    "nothing",
                    step,
                )
        return tuple(present)

    def _chosen(self, wanted: Sequence[str], known: Sequence[str]) -> list[str]:
        """The labels to use. Raises UnknownName, and DataError for fewer than two."""
        for name in wanted:
            if name not in known:
                raise UnknownName(
                    f"label in data.labels (of {self.path}):",
                    name,
                    known,
                    f"labels: {', '.join(known)}",
                )
        labels = list(dict.fromkeys(wanted)) or list(known)
        if len(labels) < 2:
            raise DataError(
                f"labels {self.path}: {len(labels)} labels ({', '.join(labels) or 'none'}); two "
                "are needed",
                "add a column for each label; for two classes that exclude each other write them "
                "in a column 'label'",
            )
        return labels

    def _item(self, line: int, row: dict[str, str], said: tuple[str, ...], group: str) -> Item:
        """The item of one row. `said`: its labels or its class; `group`: a column, or ""."""
        where = f"labels {self.path}, line {line}"
        name = row["image"].strip().replace("\\", "/").removeprefix("./")
        if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DataError(
                f"{where}: image {name!r} is not a path below {self.root}",
                "name images relative to the CSV's folder, or to another folder with "
                "--set data.images=DIR",
            )
        split = None
        if "split" in row:
            split = SPLIT_NAMES.get(row["split"].strip().lower())
            if split is None:
                raise DataError(
                    f"{where}: split is {row['split']!r}, expected {', '.join(SPLITS)}",
                    "correct it, or leave the column out: images are then split by "
                    "data.test_share and data.val_share",
                )
        tied = (row[group].strip() or None) if group else None
        if self.labels is None:
            if not said[0]:
                raise DataError(f"{where}: label is empty", "name the image's class")
            return Item(name, said[0], split, tied)
        findings = tuple(label for label in self.labels if label in said)
        return Item(name, together(findings), split, tied, findings)

    def _check(self) -> None:
        """Raise DataError for images named twice, missing images, and labels that teach nothing."""
        first: dict[str, int] = {}
        for item, (line, _) in zip(self._items, self._rows, strict=True):
            if item.name in first:
                raise DataError(
                    f"labels {self.path}, line {line}: {item.name} is also in line "
                    f"{first[item.name]}",
                    "keep one row for each image",
                )
            first[item.name] = line
        missing = [
            name
            for name, line in first.items()
            if not is_file(self.root / name, f"labels {self.path}, line {line}:")
        ]
        if missing:
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            raise DataError(
                f"labels {self.path}: {len(missing)} of {len(first)} images are not under "
                f"{self.root}: "
                f"{shown([f'{name} (line {first[name]})' for name in missing[:SHOWN]])}{more}",
                "remove their rows, or name the images' folder with --set data.images=DIR",
            )
        counts = Counter(label for item in self._items for label in item.findings or ())
        for label in self.labels or []:
            if counts[label] in (0, len(self._items)):
                which = "no image has" if not counts[label] else "every image has"
                raise DataError(
                    f"labels {self.path}: {which} the label {label!r}, so that it cannot be learnt",
                    "remove it from the CSV, or name the others in data.labels",
                )


def _listed(cell: str) -> tuple[str, ...]:
    """The labels of a cell "A|B"."""
    names = (part.strip() for part in cell.split("|"))
    return tuple(name for name in names if name.lower() not in _NONE)
