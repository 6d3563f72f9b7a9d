"""CSV files with one row for each image. Errors name the file and the line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgekd.core.errors import DataError, nearest
from edgekd.data import column_names, csv_text
from edgekd.data.class_names import normal

# What a needed column may be called instead, as keys (`column_names`).
_OTHER_NAMES = {"image": column_names.IMAGE, "group": column_names.GROUP}


def rows(path: Path, needed: Iterable[str], role: str) -> list[dict[str, str]]:
    """The rows of a CSV with a header line, as {column: cell}.

    `needed`: columns that it must have. `role`: what the file is for, for messages. Raises
    DataError for a file that cannot be read, a missing or repeated column, and a row that is too
    short or too long.
    """
    return [row for _, row in numbered(path, needed, role)]


def numbered(path: Path, needed: Iterable[str], role: str) -> list[tuple[int, dict[str, str]]]:
    """Rows as in `rows`, each with the number of its line in the file.

    Names of columns come without outer spaces, and in composed Unicode. A needed column may have
    another of its usual names in the file. A file that ends in .gz is unpacked.
    """
    found = csv_text.read(
        path,
        f"{role} {path}",
        f"name a CSV with the columns {', '.join(needed) or 'image and label'}",
    )
    header = [normal(name.strip()) for name in found.header]
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise DataError(
            f"{role} {path}: two columns have the name {twice[0]!r}",
            "give each column a name of its own",
        )
    for column in needed:
        other = column_names.find(header, _OTHER_NAMES.get(column, ()))
        if column not in header and other is not None:
            header[header.index(other)] = column
        if column not in header:
            near = nearest(column, header)
            raise DataError(
                f"{role} {path}: no column {column!r}" + (f"; there is {near!r}" if near else ""),
                f"the first line must name the columns, with {', '.join(needed)} among them",
            )
    if not found.rows:
        raise DataError(f"{role} {path}: no rows below its header", "write one row for each image")
    return [
        (line, _named(header, cells, f"{role} {path}, line {line}")) for line, cells in found.rows
    ]


def _named(header: Sequence[str], cells: Sequence[str], where: str) -> dict[str, str]:
    """A row as {column: cell}, without columns that have no name. Raises DataError for a row of
    another length.
    """
    if len(cells) != len(header):
        raise DataError(
            f"{where}: {len(cells)} cells, and the header names {len(header)} columns",
            "every row needs every column; a cell that holds a comma stands in quotation marks",
        )
    return {name: cell for name, cell in zip(header, cells, strict=True) if name}


def groups(path: Path, images: Sequence[str]) -> tuple[list[str], list[int]]:
    """The sorted names of the groups in a CSV, and the number of each image's group.

        image,group
        train/cat/1.jpg,anna

    `images`: their names. Raises DataError when one of them is not in the CSV.
    """
    table = rows(path, ("image", "group"), "groups")
    known = {normal(row["image"]): row["group"] for row in table}
    missing = [name for name in images if normal(name) not in known]
    if missing:
        raise DataError(
            f"groups {path}: {len(missing)} images have no row, {missing[0]!r} first",
            "name every image as the data set does, for example train/cat/1.jpg",
        )
    names = sorted(set(known.values()))
    number = {name: index for index, name in enumerate(names)}
    return names, [number[known[normal(name)]] for name in images]
