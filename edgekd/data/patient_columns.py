"""What a data set says of its patients: sex, age and view of each image, where it has them.

A file of labels, a manifest.csv or DICOM headers hold them in columns of many names
(`column_names.ABOUT`). Ages are put together in decades, because single years make groups that are
too small to tell anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgekd.core.errors import DataError, UnknownName
from edgekd.data import column_names
from edgekd.data.sources import Source

# Words by which medical images are recognised in a data set's name or in its source.
MEDICAL = re.compile(
    r"dicom|x-?ray|radiograph|chest|pneumon|ct\b|mri\b|lesion|patient|derma|retina|path(o|mnist)|phantom",
    re.IGNORECASE,
)
PATIENT = tuple(column_names.ABOUT)  # "sex", "age", "view"
# DICOM's age string (PS3.5, 6.2, AS): a number of days, weeks, months or years.
_AGE = re.compile(r"0*(\d{1,3})(?:\.\d*)?\s*([dwmy])?", re.IGNORECASE)
_YEARS = {"d": 1 / 365.25, "w": 7 / 365.25, "m": 1 / 12, "y": 1.0, "": 1.0}
# No one has been older than 122 (Robine and Allard 1998). ChestX-ray14 has ages up to 414.
OLDEST = 122
_SEXES = {
    "f": "female",
    "female": "female",
    "w": "female",
    "woman": "female",
    "m": "male",
    "male": "male",
    "man": "male",
    "o": "other",
    "other": "other",
}
_UNKNOWN = ("", "unknown", "n/a", "na", "nan", "none", "-")


def values(source: Source, column: str) -> dict[str, str] | None:
    """{image name: value} of a column of the source; None where it has none of that name.

    For "sex", "age" and "view" the usual other names are tried, too, such as PatientSex.
    """
    read = getattr(source, "column", None)
    if read is None:
        return None
    for name in (column, *column_names.ABOUT.get(column, ())):
        try:
            found: dict[str, str] = read(name)
        except (UnknownName, DataError):
            continue
        return found
    return None


def known(source: Source) -> list[str]:
    """Those of "sex", "age" and "view" that the source has for at least one image."""
    return [name for name in PATIENT if values(source, name)]


def group_of(column: str, value: str | None) -> str | None:
    """The group that a value of a column belongs to; None for a value that says nothing.

    Ages become decades ("50 to 59"), sexes and views get one spelling each. Values of any other
    column stay as they are.
    """
    text = (value or "").strip()
    if text.lower() in _UNKNOWN:
        return None
    kind = next((name for name in PATIENT if column_names.key(column) in _keys(name)), None)
    if kind == "age":
        return _decade(text)
    if kind == "sex":
        return _SEXES.get(text.lower())
    return text.upper() if kind == "view" else text


def is_medical(name: str, source: str, columns: Sequence[str]) -> bool:
    """Whether a data set holds medical images, by its name, its source, and the `known` columns."""
    return bool(columns) or MEDICAL.search(f"{name} {source}") is not None


def _keys(name: str) -> tuple[str, ...]:
    return column_names.ABOUT[name]


def _decade(text: str) -> str | None:
    """The decade of an age: "50 to 59" for "058Y". A text that is no age stays as it is, and None
    stands for an age that no one has.
    """
    found = _AGE.fullmatch(text)
    if found is None:
        return text
    years = int(found[1]) * _YEARS[(found[2] or "").lower()]
    first = int(years // 10) * 10
    return f"{first} to {first + 9}" if years <= OLDEST else None
