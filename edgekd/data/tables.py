"""CSV files with one row for each image. Errors name the file and the line."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from edgekd.core.artifact_rows import ImageRow
from edgekd.core.errors import DataError, nearest

# Key for the cells of a row beyond the header. No column can have this name.
_MORE = "\0"


def rows(path: Path, needed: Iterable[str], role: str) -> list[dict[str, str]]:
    """The rows of a CSV with a header line, as {column: cell}.

    `needed`: columns that it must have. `role`: what the file is for, for messages. Raises
    DataError for a file that cannot be read, a missing or repeated column, and a row that is too
    short or too long.
    """
    return [row for _, row in numbered(path, needed, role)]


def numbered(
    path: Path, needed: Iterable[str], role: str, aliases: Mapping[str, str] = MappingProxyType({})
) -> list[tuple[int, dict[str, str]]]:
    """Rows as in `rows`, each with the number of its line in the file.

    `aliases`: other names that a column may have, {name in the file: name in the result}.
    """
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
            f"{role} {path}: two columns have the name {twice[0]!r}",
            "give each column a name of its own",
        )
    for column in needed:
        if column not in header:
            near = nearest(column, header)
            raise DataError(
                f"{role} {path}: no column {column!r}" + (f"; there is {near!r}" if near else ""),
                f"the first line must name the columns, with {', '.join(needed)} among them",
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
        raise DataError(f"{role} {path}: no rows below its header", "write one row for each image")
    return found


def groups(path: Path, images: Sequence[ImageRow]) -> tuple[list[str], list[int]]:
    """The sorted names of the groups in a CSV, and the number of each image's group.

        image,group
        train/cat/1.jpg,anna

    `images`: rows of a Dataset. Raises DataError when one of them is not in the CSV.
    """
    known = {row["image"]: row["group"] for row in rows(path, ("image", "group"), "groups")}
    missing = [row["name"] for row in images if row["name"] not in known]
    if missing:
        raise DataError(
            f"groups {path}: {len(missing)} images have no row, {missing[0]!r} first",
            "name every image as the data set does, for example train/cat/1.jpg",
        )
    names = sorted(set(known.values()))
    number = {name: index for index, name in enumerate(names)}
    return names, [number[known[row["name"]]] for row in images]
