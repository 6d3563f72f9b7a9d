"""CSV files with one row an image, which a user hands in: read whole, every fault named by file and line."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from edgekd.core.errors import DataError, nearest

_MORE = "\0"  # where a row's cells beyond the header go; no header names it


def rows(path: Path, needed: Iterable[str], role: str) -> list[dict[str, str]]:
    """The rows of a CSV with a header line. Raises DataError naming what is missing; `role` says what the file is for."""
    return [row for _, row in numbered(path, needed, role)]


def numbered(
    path: Path, needed: Iterable[str], role: str, aliases: Mapping[str, str] = MappingProxyType({})
) -> list[tuple[int, dict[str, str]]]:
    """The same, each with its line in the file. `aliases`: other names that columns may have, {found: meant}."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(
            f"{role} {path}: {reason}", f"name a CSV with the columns {', '.join(needed)}"
        ) from None
    reader = csv.DictReader(text.splitlines(), restkey=_MORE)
    reader.fieldnames = header = [aliases.get(name, name) for name in reader.fieldnames or []]
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise DataError(
            f"{role} {path}: two columns are called {twice[0]!r}",
            "give each column a name of its own",
        )
    for column in needed:
        if column not in header:
            near = nearest(column, header)
            raise DataError(
                f"{role} {path}: no column {column!r}" + (f"; there is {near!r}" if near else ""),
                f"its first line must name the columns, {', '.join(needed)} among them",
            )
    found = []
    for row in reader:
        if _MORE in row or None in row.values():
            raise DataError(
                f"{role} {path}, line {reader.line_num}: {len(header)} columns expected",
                "every row needs every column",
            )
        found.append((reader.line_num, {name: value for name, value in row.items() if name}))
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
        raise DataError(
            f"groups {path}: {len(missing)} images have no row, {missing[0]!r} first",
            "name every image as the data set does, for example train/cat/1.jpg",
        )
    names = sorted(set(known.values()))
    number = {name: index for index, name in enumerate(names)}
    return names, [number[known[str(row["name"])]] for row in images]
