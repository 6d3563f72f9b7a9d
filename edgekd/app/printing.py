"""Printing on stdout that several verbs share: JSON, and lists of named things."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from edgekd.core.artifacts import Json
from edgekd.core.records import Record, to_json

LINE = 75  # letters of a list on the line of its key: 95 columns with the key
EMPTY: tuple[Json, ...] = ("", [], {}, (), None)  # values that a list of keys leaves out


def print_json(body: Record | Sequence[Record] | Json) -> None:
    """Print a record, several records, or a JSON value."""
    print(json.dumps(plain(body), indent=1))


def print_keys(row: Record | Json) -> None:
    """Print the fields of a record that are not empty, one on each line.

    The rows of a table, and the entries of a list that does not fit on one line, follow indented.
    """
    for key, value in plain(row).items():
        if value in EMPTY:
            continue
        listed = isinstance(value, list | tuple)
        text = ", ".join(map(str, value)) if listed else str(value)
        if isinstance(value, dict):
            print(key)
            print_indented(f"{name:20} {about}" for name, about in value.items())
        elif listed and len(text) > LINE:
            print(key)
            print_indented(map(str, value))
        else:
            print(f"{key:20} {text}")


def print_indented(lines: Iterable[str]) -> None:
    """Print lines under a heading."""
    for line in lines:
        print(f"    {line}")


def print_titles(rows: Sequence[tuple[str, str]]) -> None:
    """Print (name, title) pairs in two columns."""
    for name, title in rows:
        print(f"{name:28} {title}")


def plain(body: Record | Sequence[Record] | Json) -> Json:
    """A record, or several, as a JSON value."""
    if isinstance(body, Record):
        return to_json(body)
    if isinstance(body, list | tuple):
        return [plain(part) for part in body]
    return body


def printable(text: str) -> str:
    """The text with its control characters escaped: a file's name may hold escape sequences."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
