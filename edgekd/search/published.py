"""The files of a search's out folder that people and programs read."""

from __future__ import annotations

from pathlib import Path

from edgekd.core import atomic_files
from edgekd.core.errors import ModelFileError
from edgekd.core.files import is_file
from edgekd.core.records import from_json, to_json
from edgekd.core.store import facts_json, read_json
from edgekd.search.page import page
from edgekd.search.record import SCHEMA, Search

FILE, PAGE = "search.json", "search.html"


def is_search(folder: Path) -> bool:
    """Whether a folder is that of a search."""
    return is_file(folder / FILE)


def write(out: Path, search: Search) -> None:
    """Write search.json, and search.html beside it, each whole or not at all.

    Raises StoreError for a full disk or a folder that may not be written to.
    """
    with atomic_files.disk_errors(out):
        atomic_files.replace(out / FILE, facts_json(to_json(search)))
        atomic_files.replace(out / PAGE, page(search).encode())


def read(folder: Path) -> Search:
    """The search in an out folder.

    Raises ModelFileError when search.json is missing, or is not the record of a search.
    """
    path = folder / FILE
    if not is_search(folder):
        raise ModelFileError(f"{path} does not exist", "name the out folder of an `edgekd search`")
    return from_json(Search, read_json(path, SCHEMA), str(path))
