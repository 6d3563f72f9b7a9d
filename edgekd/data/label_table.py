"""What a file of labels says, whatever its layout: one row for each image."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekd.core.errors import DataError
from edgekd.data import column_names
from edgekd.data.sources import SPLIT_NAMES, SPLITS

# An age in years, as NIH (58, or 058Y) and DICOM (058Y) write it.
_YEARS = re.compile(r"0*(\d{1,3})(?:\.0*)?Y?", re.IGNORECASE)
# CheXpert writes the view of a picture in two columns.
_LATERAL = "lateral"


@dataclasses.dataclass(frozen=True)
class LabelRow:
    """One image and what is said of it.

    `image`: its name in the file, with forward slashes. `said`: its class, or the labels that it
    has. `uncertain`: labels that the file marks as uncertain. `where`: file and line, for messages.
    `cells`: further facts by name: each column, and `sex`, `age` and `view` where they are known.
    """

    image: str
    said: tuple[str, ...]
    where: str
    uncertain: tuple[str, ...] = ()
    split: str | None = None
    group: str | None = None
    cells: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """All rows of a file of labels, or of several that belong together.

    `labels`: every label in order when an image may have several, else None. `chosen`: whether the
    user named them. `by`: what names the groups, for a reader. `licence` and `source`: as in
    `SourceFacts`. `root`: the folder that images are named relative to; None: that of `path`.
    """

    path: Path
    rows: list[LabelRow]
    labels: list[str] | None
    chosen: bool = False
    by: str = ""
    warnings: list[str] = dataclasses.field(default_factory=list)
    licence: str = "not stated: a CSV carries no licence; check before you ship"
    source: str = ""
    root: Path | None = None

    @property
    def columns(self) -> list[str]:
        """The names of all facts in the rows, in order."""
        return list(dict.fromkeys(name for row in self.rows for name in row.cells))


def joined(first: LabelTable, parts: Sequence[tuple[str, LabelTable]]) -> LabelTable:
    """Several tables as one, each of them a split: [("train", table), ...]; else as `first`."""
    rows = [dataclasses.replace(row, split=split) for split, table in parts for row in table.rows]
    return dataclasses.replace(
        first,
        rows=rows,
        warnings=list(dict.fromkeys(said for _, table in parts for said in table.warnings)),
    )


@dataclasses.dataclass(frozen=True)
class AboutColumns:
    """The columns that say something of a patient or a picture. Found once for a table, since a
    table may have hundreds of thousands of rows.
    """

    facts: Mapping[str, str]  # {"sex", "age" or "view": column}
    frontal: str | None
    direction: str | None

    @classmethod
    def of(cls, header: Sequence[str]) -> AboutColumns:
        """The columns of a header."""
        found = {
            name: column
            for name, keys in column_names.ABOUT.items()
            if (column := column_names.find(header, keys)) is not None
        }
        return cls(
            found,
            column_names.find(header, (column_names.FRONTAL,)),
            column_names.find(header, (column_names.DIRECTION,)),
        )

    def read(self, cells: Mapping[str, str]) -> dict[str, str]:
        """What a row says of sex, age (whole years) and view, by these three names."""
        found = {name: cells[column].strip() for name, column in self.facts.items()}
        if years := _YEARS.fullmatch(found.get("age", "")):
            found["age"] = years[1]
        if self.frontal is not None and "view" not in found:
            lateral = cells[self.frontal].strip().lower() == _LATERAL
            direction = "" if lateral or self.direction is None else cells[self.direction].strip()
            found["view"] = direction or cells[self.frontal].strip()
        return {name: value for name, value in found.items() if value}


def split_of(cell: str, where: str) -> str:
    """The split that a cell names. Raises DataError for another word."""
    split = SPLIT_NAMES.get(cell.strip().lower())
    if split is None:
        raise DataError(
            f"{where}: split is {cell!r}, expected {', '.join(SPLITS)}",
            "correct it, or leave the column out: images are then split by "
            "data.test_share and data.val_share",
        )
    return split
