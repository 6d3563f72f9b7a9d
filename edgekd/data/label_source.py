"""A file of labels as a source: its rows, and the images that they name."""

from __future__ import annotations

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from edgekd.core.errors import DataError, UnknownName
from edgekd.core.files import state_of
from edgekd.core.records import UNSET
from edgekd.data import column_names, image_bytes, image_files
from edgekd.data.file_kinds import IMAGE_SUFFIXES
from edgekd.data.images import header_size
from edgekd.data.label_table import LabelTable
from edgekd.data.shown_names import shown
from edgekd.data.sources import Item, SourceFacts, together
from edgekd.settings.recipe_toml import spelled

OnError = Literal["refuse", "skip"]  # of `data.on_error`


class LabelSource:
    """The images of a table of labels. `root`: the folder that their names are relative to.
    `on_error`: as `data.on_error`; "skip" leaves out images that are missing.

    Raises DataError, naming file and line, for an image that is missing or named twice, and for
    labels that no image or every image has.
    """

    def __init__(self, table: LabelTable, root: Path, on_error: OnError = "refuse") -> None:
        self.table, self.root, self.labels = table, root, table.labels
        self.name = table.path.name.partition(".")[0]
        _refuse_twice(table)
        paths, missing = image_files.locate(root, {row.image: row.where for row in table.rows})
        if missing and (on_error == "refuse" or not paths):
            raise image_files.refused(missing, table, root)
        rows = [row for row in table.rows if row.image in paths]
        # A name without a suffix takes that of its file.
        named = {
            name: name if Path(name).suffix.lower() in IMAGE_SUFFIXES else name + path.suffix
            for name, path in paths.items()
        }
        self._paths = {named[name]: path for name, path in paths.items()}
        self._items: list[Item] = []
        self._cells = {named[row.image]: row.cells for row in rows}
        for row in rows:
            if self.labels is None:
                item = Item(named[row.image], row.said[0], row.split, row.group)
            else:
                findings = tuple(label for label in self.labels if label in row.said)
                unsure = tuple(label for label in self.labels if label in row.uncertain)
                item = Item(
                    named[row.image], together(findings), row.split, row.group, findings, unsure
                )
            self._items.append(item)
        self._refuse_constant()
        self.facts = SourceFacts(
            licence=table.licence,
            source=table.source or self.name,
            synthetic=False,
            groups_by=table.by or UNSET,
            warnings=table.warnings + image_files.left_out(missing),
        )

    def items(self) -> list[Item]:
        """Every image, in the table's order."""
        return list(self._items)

    def file(self, item: Item) -> Path:
        """Where an image lies."""
        return self._paths[item.name]

    def load(self, item: Item) -> bytes:
        """The file's bytes. Raises DataError when it cannot be read."""
        return image_bytes.read(self._paths[item.name], item.name, str(self.root))

    def column(self, name: str) -> dict[str, str]:
        """{image name: value} of any column, and of sex, age and view where they are known.

        Raises UnknownName for a missing one.
        """
        columns = self.table.columns
        found = column_names.named(columns, name)
        if found is None:
            raise UnknownName(
                f"column of {self.table.path}", name, columns, f"it has {', '.join(columns)}"
            )
        return {image: cells[found] for image, cells in self._cells.items() if cells.get(found)}

    def native_px(self) -> int:
        """The longest side in any image's header, in pixels; nothing is decoded."""
        with ThreadPoolExecutor(2) as threads:
            return max(map(max, threads.map(header_size, self._paths.values())), default=0)

    def fingerprint(self) -> str:
        """sha256 over each image's name, labels, split, group, size and modification time."""
        digest = hashlib.sha256(repr(self.labels).encode())
        for item in self._items:
            state = state_of(self._paths[item.name])
            unsure = f"\0{item.uncertain}" if item.uncertain else ""
            digest.update(f"{item}{unsure}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def _refuse_constant(self) -> None:
        """Raise DataError for labels that no image has, or that every image has."""
        counts = Counter(label for item in self._items for label in item.findings or ())
        unsure = Counter(label for item in self._items for label in item.uncertain)
        none = [each for each in self.labels or [] if not counts[each] + unsure[each]]
        every = [each for each in self.labels or [] if counts[each] == len(self._items)]
        for labels, which in ((none, "no image has"), (every, "every image has")):
            if labels:
                rest = [each for each in self.labels or [] if each not in {*none, *every}]
                kind = "labels" if len(labels) > 1 else "label"
                raise DataError(
                    f"labels {self.table.path}: {which} the {kind} {shown(list(map(repr, labels)))}"
                    ", so that it cannot be learnt",
                    f"name the others: --set 'data.labels={spelled(tuple(rest))}'"
                    if len(rest) > 1
                    else "add rows, so that at least two labels can be learnt",
                )


def _refuse_twice(table: LabelTable) -> None:
    first: dict[str, str] = {}
    for row in table.rows:
        if row.image in first:
            line = first[row.image].rpartition(", ")[2]
            raise DataError(
                f"{row.where}: {row.image} is also in {line}", "keep one row for each image"
            )
        first[row.image] = row.where
