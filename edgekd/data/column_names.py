"""Names of columns, however they are written: `Patient ID`, `patient_id` and `patientid` are one.

A table's author chooses case, spaces, underscores and hyphens; `key` leaves them out.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Sequence

# The keys of columns by what they hold, the clearest name first.
IMAGE = (
    "image",
    "imagepath",
    "path",
    "filepath",
    "file",
    "filename",
    "imagefile",
    "imagefilename",
    "imagename",
    "imageindex",
    "imageid",
    "imgpath",
    "imgname",
    "img",
)
LABEL = ("label", "class", "classname", "category")
LABELS = ("labels", "findinglabels", "findings")
SPLIT = ("split",)
# Columns that hold groups, from the surest on: one of some words, with or without an ending. What
# is likely a group may also be something else, such as `case` = 0 or 1.
GROUP_WORDS = ("group", "patient", "subject", "participant", "person")
LIKELY_GROUP_WORDS = ("individual", "donor", "animal", "case", "study", "exam")
GROUP_ENDINGS = (
    *("key", "id", "ids", "uid", "identifier", "no", "nr", "num", "number", "code", "name"),
)
# A patient's number in a hospital, which clinical exports call by its abbreviation.
RECORD_NUMBERS = ("mrn", "medicalrecordnumber", "medicalrecord")
GROUP = (
    *(f"{word}{ending}" for word in GROUP_WORDS for ending in ("", *GROUP_ENDINGS)),
    *RECORD_NUMBERS,
)
LIKELY_GROUP = tuple(
    f"{word}{ending}" for word in LIKELY_GROUP_WORDS for ending in ("", *GROUP_ENDINGS)
)
# What is kept of a patient and of the picture, for figures by subgroup.
ABOUT = {
    "sex": ("sex", "patientsex", "gender", "patientgender", "patientsexdicom"),
    "age": ("age", "patientage"),
    "view": ("view", "viewposition", "projection", "viewpositiondicom"),
}
# Two more columns of CheXpert: the view of a picture, and of a frontal one its direction.
FRONTAL, DIRECTION = "frontallateral", "appa"


@functools.lru_cache(maxsize=1024)
def key(name: str) -> str:
    """A column's name without case, spaces and punctuation, for comparison."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return "".join(char for char in plain if char.isalnum())


def find(header: Iterable[str], keys: Sequence[str]) -> str | None:
    """The column whose key comes first in `keys`; None when no column has one of them.

    Of several columns with that key, the first.
    """
    by_key: dict[str, str] = {}
    for name in header:
        by_key.setdefault(key(name), name)
    return next((by_key[wanted] for wanted in keys if wanted in by_key), None)


def named(header: Sequence[str], name: str) -> str | None:
    """The column that a user's setting names: spelt exactly so, or else with the same key."""
    return name if name in header else find(header, [key(name)] if key(name) else [])


def about_keys() -> frozenset[str]:
    """The keys of columns that say something about a patient or a picture, and are no labels."""
    return frozenset({FRONTAL, DIRECTION, *(each for keys in ABOUT.values() for each in keys)})
