"""A CSV of labels as a source, one row an image. What its header names decides what it says:

    image,LABEL,LABEL,...          a column for each label, 1 or 0 (or empty: 0): an image may have none or several
    image,labels                   the labels in one cell, "Finding A|Finding B"; empty or "No Finding" for none
    image,label                    one class an image, as folders say it

`split` (train, val, test) and `group` (a patient: never in two splits) may stand beside them. ChestX-ray14's own header
(Image Index, Finding Labels, Patient ID) is read as it is.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from edgekd.core.errors import DataError, UnknownName
from edgekd.data import tables
from edgekd.data.folders import SHOWN, SPLIT_NAMES, shown
from edgekd.data.images import header_size
from edgekd.data.sources import SPLITS, Item, SourceFacts, together

ALIASES = {
    "Image Index": "image",
    "Finding Labels": "labels",
    "Patient ID": "group",
}  # ChestX-ray14's names
_YES, _NO = (
    {"1", "1.0"},
    {"0", "0.0", ""},
)  # CheXpert writes floats, and nothing where a report does not speak of it
_NONE = {"", "no finding"}  # how a cell of labels says that there is none
_UNCERTAIN = {"-1", "-1.0"}  # CheXpert's


class CsvSource:
    """Images and labels that a CSV names. `images`: the folder that its names start from; "": the CSV's own.

    `wanted`: the labels to read, in this order, where not all are. Read once, when the object is made. Raises DataError
    naming file and line for a value that is no label, an image twice, an image that is not there, a split that is none; and
    for a label that no image has, or every one. UnknownName for a label or a group column that the CSV does not have.
    """

    def __init__(
        self, path: Path, group_column: str, images: str = "", wanted: Sequence[str] = ()
    ) -> None:
        self.path, self.root = path, Path(images).expanduser() if images else path.parent
        self.name = path.stem
        self._rows = tables.numbered(path, ("image",), "labels", ALIASES)
        header = list(self._rows[0][1])
        group = next((name for name in ("group", group_column) if name in header), "")
        if not group and group_column != "patient_key":
            raise UnknownName(
                f"column of {path}", group_column, header, f"it has {', '.join(header)}"
            )
        own = {"image", "split", group}
        self.labels: list[str] | None = None
        if "labels" in header:
            said = {line: self._listed(row["labels"]) for line, row in self._rows}
            self.labels = self._chosen(
                wanted, sorted({name for names in said.values() for name in names})
            )
        elif "label" in header:
            said = {line: (row["label"].strip(),) for line, row in self._rows}
            if wanted:
                raise DataError(
                    f"data.labels names labels, and {path} has one class an image (its column 'label')",
                    "leave data.labels out",
                )
        else:
            self.labels = self._chosen(wanted, [name for name in header if name not in own])
            said = {line: self._marked(line, row, not wanted) for line, row in self._rows}
        self._items = [self._item(line, row, said[line], group) for line, row in self._rows]
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
        """The file's bytes. Raises DataError when it cannot be read (any more)."""
        try:
            return (self.root / item.name).read_bytes()
        except OSError as error:
            raise DataError(
                f"{item.name}: cannot be read ({error.strerror})",
                f"check the file under {self.root}",
            ) from error

    def column(self, name: str) -> dict[str, str]:
        """{image name: value} of any column. Raises UnknownName for one that is not there."""
        header = list(self._rows[0][1])
        if name not in header:
            raise UnknownName(f"column of {self.path}", name, header, f"it has {', '.join(header)}")
        return {
            item.name: row[name]
            for item, (_, row) in zip(self._items, self._rows, strict=True)
            if row[name]
        }

    def native_px(self) -> int:
        """The longest side that any image's header claims; headers only."""
        with ThreadPoolExecutor(2) as threads:
            paths = (self.root / item.name for item in self._items)
            return max((max(size) for size in threads.map(header_size, paths)), default=0)

    def fingerprint(self) -> str:
        """sha256 over every image's name, labels, split, group, size and time of change. Contents are not read."""
        digest = hashlib.sha256(repr(self.labels).encode())
        for item in self._items:
            state = (self.root / item.name).stat()
            digest.update(f"{item}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def _listed(self, cell: str) -> tuple[str, ...]:
        """The labels of a cell "A|B"."""
        names = (part.strip() for part in cell.split("|"))
        return tuple(name for name in names if name.lower() not in _NONE)

    def _marked(self, line: int, row: dict[str, str], every: bool) -> tuple[str, ...]:
        """The labels whose column says 1. `every`: whether all columns were taken for labels."""
        present = []
        for name in self.labels or []:
            value = row[name].strip()
            if value in _YES:
                present.append(name)
            elif value not in _NO:
                step = (
                    "decide each uncertain one, 1 or 0"
                    if value in _UNCERTAIN
                    else (
                        f'if {name!r} is no label, say which columns are: --set \'data.labels=["A", "B"]\''
                        if every
                        else "correct the line"
                    )
                )
                raise DataError(
                    f"labels {self.path}, line {line}: {name} is {value!r}, expected 1, 0 or nothing",
                    step,
                )
        return tuple(present)

    def _chosen(self, wanted: Sequence[str], known: Sequence[str]) -> list[str]:
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
                f"labels {self.path}: {len(labels)} labels ({', '.join(labels) or 'none'}); two are needed",
                "add a column for each label; for two classes that exclude each other name one in a column 'label'",
            )
        return labels

    def _item(self, line: int, row: dict[str, str], said: tuple[str, ...], group: str) -> Item:
        where, name = (
            f"labels {self.path}, line {line}",
            row["image"].strip().replace("\\", "/").removeprefix("./"),
        )
        if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DataError(
                f"{where}: image {name!r} is not a path below {self.root}",
                "name images from the CSV's folder on, or their folder with --set data.images=DIR",
            )
        split = None
        if "split" in row:
            split = SPLIT_NAMES.get(row["split"].strip().lower())
            if split is None:
                raise DataError(
                    f"{where}: split is {row['split']!r}, expected {', '.join(SPLITS)}",
                    "correct it, or leave the column out: images are then split by data.test_share and val_share",
                )
        tied = (row[group].strip() or None) if group else None
        if self.labels is None:
            if not said[0]:
                raise DataError(f"{where}: label is empty", "name the image's class")
            return Item(name, said[0], split, tied)
        findings = tuple(label for label in self.labels if label in said)
        return Item(name, together(findings), split, tied, findings)

    def _check(self) -> None:
        first: dict[str, int] = {}
        for item, (line, _) in zip(self._items, self._rows, strict=True):
            if item.name in first:
                raise DataError(
                    f"labels {self.path}, line {line}: {item.name} stands in line {first[item.name]}, too",
                    "keep one row an image",
                )
            first[item.name] = line
        missing = [name for name in first if not (self.root / name).is_file()]
        if missing:
            raise DataError(
                f"labels {self.path}: {len(missing)} of {len(first)} images are not under {self.root}: "
                f"{shown([f'{name} (line {first[name]})' for name in missing[:SHOWN]])}"
                + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""),
                "take their rows out, or name the images' folder with --set data.images=DIR",
            )
        counts = Counter(label for item in self._items for label in item.findings or ())
        for label in self.labels or []:
            if counts[label] in (0, len(self._items)):
                which = "no image has" if not counts[label] else "every image has"
                raise DataError(
                    f"labels {self.path}: {which} the label {label!r}, so that there is nothing to learn",
                    "take it out of the CSV, or name the others in data.labels",
                )
