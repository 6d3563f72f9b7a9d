"""manifest.csv beside a folder's images: further facts of each image, such as the patient.

path,patient_id
train/cat/1.jpg,anna
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekd.core import files
from edgekd.core.errors import DataError, UnknownName
from edgekd.data import column_names, csv_text
from edgekd.data.class_names import normal

NAME = "manifest.csv"
# The column that names the images may be called like that of a CSV of labels.
PATHS = ("path", *(name for name in column_names.IMAGE if name != "path"))


def aligned(path: Path, images: Sequence[str]) -> dict[str, list[str]]:
    """The cells of each column, in the order of `images`; "" for an image without a row.

    Empty without a manifest. Raises DataError for one that cannot be read or that names no images.
    """
    if not files.is_file(path):
        return {}
    found = csv_text.read(path, str(path), "save it as comma-separated UTF-8, or remove it")
    header = [name.strip() for name in found.header]
    named = column_names.find(header, PATHS)
    if named is None:
        raise DataError(
            f"{path}: no column 'path' (found: {', '.join(header) or 'nothing'})",
            "the first line must name the columns, for example path,split,label,patient_id",
        )
    # A row may be shorter than the header; its last cells then count as empty.
    rows = [dict(zip(header, cells, strict=False)) for _, cells in found.rows]
    by_path = {_key(row.get(named, "")): row for row in rows}
    aligned_rows = [by_path.get(_key(image), {}) for image in images]
    return {name: [row.get(name, "") for row in aligned_rows] for name in header if name}


def required(path: Path, columns: Mapping[str, Sequence[str]], name: str) -> str:
    """The column that a setting names. Raises DataError without a manifest, and UnknownName."""
    found = column_names.named(list(columns), name)
    if found is not None:
        return found
    if not columns:
        raise DataError(
            f"{path}: no such file, but its column {name!r} was asked for",
            f"write a manifest.csv with the columns path and {name}",
        )
    raise UnknownName(f"column of {path.name}", name, columns, f"it has {', '.join(columns)}")


def _key(path: str) -> str:
    """A path as it is compared: forward slashes, composed accents (macOS decomposes them)."""
    return normal(path.replace("\\", "/").removeprefix("./"))
