"""The text of a CSV as rows of cells. Errors name the file and the line that a row starts in."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from edgekd.core import files
from edgekd.core.errors import DataError

# Python's limit for one cell, in characters. A longer one is nearly always a quotation mark that
# nothing closes: the rest of the file is then taken for one cell.
LONGEST_CELL = csv.field_size_limit()
_OPEN = "a quotation mark is opened in this line and not closed"
_CLOSE = 'close it, or remove it; a " inside a quoted cell is written twice'


@dataclasses.dataclass(frozen=True)
class CsvText:
    """The names of the columns, and the rows below: the line that each starts in, and its cells."""

    header: list[str]
    rows: list[tuple[int, list[str]]]


def read(path: Path, where: str, next_step: str) -> CsvText:
    """Read a CSV in UTF-8, with or without a byte-order mark; lines without cells are left out.

    Cells are divided by commas, or by semicolons or tabs where the first line has no comma.
    A file that ends in .gz is unpacked first.

    `where` names the file in messages, and `next_step` says what file is expected. Raises DataError
    for a file that cannot be read, a quotation mark that is not closed, and a cell of more than
    LONGEST_CELL characters.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix.lower() == ".gz" else data).decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{where}: not a whole gzip file ({error})", "download it again") from error
    except OSError as error:
        raise DataError(
            f"{where}: {files.reason(error)}", files.next_step(error) or next_step
        ) from None
    except ValueError as error:
        nul = "\0" in str(path)
        reason = "a NUL byte stands in its name" if nul else "not UTF-8 text"
        raise DataError(f"{where}: {reason}", next_step) from error
    rows = [(line, cells) for line, cells in _rows(text, where) if cells]
    return CsvText(rows[0][1] if rows else [], rows[1:])


def header(path: Path) -> list[str]:
    """The names in the first line of a CSV; none when it cannot be read, which `read` reports."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            first = file.readline(LONGEST_CELL).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, ValueError):
        return []
    try:
        return [name.strip() for name in next(csv.reader([first], delimiter=_delimiter(first)), [])]
    except csv.Error:
        return []


def _delimiter(text: str) -> str:
    """What divides the cells: Excel writes semicolons where a comma is the decimal mark."""
    first = text.partition("\n")[0]
    found = [mark for mark in (",", ";", "\t") if mark in first]
    return found[0] if found else ","


def _rows(text: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a text, each with the line that it starts in."""
    mark = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    start, lines = 1, 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if "field limit" not in str(error):
                raise DataError(f"{where}, line {start}: {error}", "correct the line") from None
            if reader.line_num > start:
                raise DataError(f"{where}, line {start}: {_OPEN}", _CLOSE) from None
            raise DataError(
                f"{where}, line {start}: a cell has more than {LONGEST_CELL:,} characters",
                "shorten it, or remove its column",
            ) from None
        yield start, cells
        start, lines = reader.line_num + 1, start
    _check_closed(text, lines, where, mark)


def _check_closed(text: str, line: int, where: str, mark: str) -> None:
    """Raise DataError when the last row, which starts in `line`, ends within quotation marks.

    The reader above takes the end of the file for the end of a cell.
    """
    last = "".join(list(io.StringIO(text, newline=""))[line - 1 :]) if line else ""
    try:
        list(csv.reader(io.StringIO(last, newline=""), delimiter=mark, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise DataError(f"{where}, line {line}: {_OPEN}", _CLOSE) from None
