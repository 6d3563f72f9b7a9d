"""CSV files with one row an image, which a user hands in: read whole, every fault named by file and line."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgekd.errors import DataError, nearest


def rows(path: Path, needed: Iterable[str], role: str) -> list[dict[str, str]]:
    """The rows of a CSV with a header line. Raises DataError naming what is missing; `role` says what the file is for."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(f"{role} {path}: {reason}", f"name a CSV with the columns {', '.join(needed)}") from None
    reader = csv.DictReader(text.splitlines(), restkey="")
    header = reader.fieldnames or []
    for column in needed:
        if column not in header:
            near = nearest(column, header)
            raise DataError(f"{role} {path}: no column {column!r}" + (f"; there is {near!r}" if near else ""),
                            f"its first line must name the columns, {', '.join(needed)} among them")
    found = []
    for line, row in enumerate(reader, 2):
        if "" in row or None in row.values():
            raise DataError(f"{role} {path}, line {line}: {len(header)} columns expected", "every row needs every column")
        found.append(row)
    if not found:
        raise DataError(f"{role} {path}: no rows below its header", "one row an image is expected")
    return found


def groups(path: Path, images: Iterable[Mapping[str, object]]) -> tuple[list[str], list[int]]:
    """Names of the groups, sorted, and each image's group by number, from a CSV with the columns image and group.

    `images`: rows of a Dataset. Raises DataError when an image of the data set has no row.
    """
    known = {row["image"]: row["group"] for row in rows(path, ("image", "group"), "groups")}
    missing = [str(row["name"]) for row in images if row["name"] not in known]
    if missing:
        raise DataError(f"groups {path}: {len(missing)} images have no row, {missing[0]!r} first",
                        "name every image as the data set does, for example train/cat/1.jpg")
    names = sorted(set(known.values()))
    number = {name: index for index, name in enumerate(names)}
    return names, [number[known[str(row["name"])]] for row in images]
