"""What a data set takes from the headers of DICOM files: patients, dates, and what is identifying.

Headers are read at the start of every build, without pixels. Nothing that identifies a person
leaves this module and `dicom_source`: patients become numbers, and the words are only compared with
the names of files.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import re
import warnings
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.core.errors import MissingExtra
from edgekd.data import dicom_file
from edgekd.data.left_out import places

if TYPE_CHECKING:
    from pydicom import Dataset

# Tags whose values name or number a person or an examination (PS3.15, table E.1-1).
_IDENTIFYING = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientBirthDate",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
)
# Numbers of many parts, which are compared as a whole. Exports name files by them.
_UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_TAGS = [
    *_IDENTIFYING,
    *_UIDS,
    "StudyDate",
    "Modality",
    "Rows",
    "Columns",
    "BurnedInAnnotation",
    *("PatientSex", "PatientAge", "ViewPosition"),
    "WindowCenter",
    "WindowWidth",
    "VOILUTSequence",
]
_WORD = r"[^\W_]+"
_ABOUT = {"sex": "PatientSex", "age": "PatientAge", "view": "ViewPosition"}
# A word of this many letters is searched for inside other words. Shorter ones would be found
# everywhere.
_LONG = 4
# In a sentence, a number of fewer digits is a count and not a person's number.
_LONG_NUMBER = 6


@dataclasses.dataclass(frozen=True)
class Header:
    """What is taken from one file.

    `patient`: PatientID, or the study where the file has none; "" for neither. `study`:
    StudyInstanceUID or "". `date`: StudyDate, or None. `image`: whether it holds an image.
    `about`: {"sex", "age" and "view": value} where the file has them, for accuracy by subgroup.
    `windowed`: whether it brings a window or a VOI LUT. `burned_in`: whether it says that a
    person's data is written into the picture. `words`: the words of identifying values, in lower
    case.
    """

    patient: str
    study: str
    date: dt.date | None
    image: bool
    windowed: bool
    burned_in: bool
    words: frozenset[str]
    about: Mapping[str, str]

    def identifies(self, text: str) -> bool:
        """Whether a text, such as a file's name, holds one of the identifying words."""
        found = words(text)
        whole = "".join(found)
        return any(word in found or (len(word) >= _LONG and word in whole) for word in self.words)


def without(text: str, known: Set[str]) -> str:
    """A sentence in which each of the known words is replaced by asterisks.

    Words of one or two letters and short numbers stay.
    """

    def clean(match: re.Match[str]) -> str:
        word = match[0]
        short = len(word) < (_LONG_NUMBER if word.isdecimal() else 3)
        return word if short or word.casefold() not in known else "***"

    return re.sub(_WORD, clean, text)


def words(text: str) -> list[str]:
    """The words and numbers of a text, in lower case."""
    return re.findall(_WORD, text.casefold())


def read_all(files: Mapping[str, Path | io.BytesIO]) -> dict[str, Header]:
    """The headers of files by name; a file that is no DICOM file, or is damaged, has none.

    Raises MissingExtra without pydicom.
    """
    found = {}
    # pydicom's warnings quote the values of tags.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, file in files.items():
            try:
                header = dicom_file.header(file, _TAGS, name)
            except MissingExtra:
                what = f"{len(files)} DICOM files ({places(list(files))})"
                raise MissingExtra("pydicom", dicom_file.EXTRA, what) from None
            except OSError:
                continue  # decoding reports it
            # A header without a size is cut short, and may lack the name, too.
            if header is not None and ("Rows" in header or dicom_file.is_document(header)):
                found[name] = _header(header)
    return found


def _header(found: Dataset) -> Header:
    patient, study = _text(found, "PatientID"), _text(found, "StudyInstanceUID")
    return Header(
        patient=patient or (f"study {study}" if study else ""),
        study=study,
        date=_date(_text(found, "StudyDate")),
        image="Rows" in found,
        windowed=dicom_file.has_window(found),
        burned_in=_text(found, "BurnedInAnnotation").upper() == "YES",
        words=frozenset(_identifying_words(found)) - {""},
        about={name: text for name, tag in _ABOUT.items() if (text := _text(found, tag))},
    )


def _text(found: Dataset, tag: str) -> str:
    """The value of a tag as text; "" where it is missing or damaged."""
    try:
        value = found.get(tag)
    except Exception:  # a value may be of any wrong form
        return ""
    return "" if value is None else str(value).strip()


def _identifying_words(found: Dataset) -> Iterable[str]:
    for tag in _IDENTIFYING:
        own = [word for word in words(_text(found, tag)) if len(word) > 1]
        yield from own
        # As file names write them: without a space, in either order, and an ID without its dashes.
        yield "".join(own)
        yield "".join(reversed(own))
    for tag in _UIDS:
        yield "".join(words(_text(found, tag)))


def _date(text: str) -> dt.date | None:
    """A date of DICOM, YYYYMMDD; None for any other text."""
    try:
        return dt.datetime.strptime(text[:8], "%Y%m%d").date()  # noqa: DTZ007  a date has no zone
    except ValueError:
        return None
