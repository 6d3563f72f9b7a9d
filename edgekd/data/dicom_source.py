"""A source with DICOM files in it: patients stay together, and nobody's name is written anywhere.

Every name and every group of such a source may end up in a store, a report or a bundle. Therefore

* a group is a running number, "patient-0001", in the order of the first file. A hash of a PatientID
  could be undone by trying all IDs; a number cannot.
* a part of a path that holds an identifying value of the file's own header is replaced:
  sick/DOE_JANE/im1.dcm becomes sick/patient-0001/im1.dcm. `DicomSource.path` finds the file.
* a study's date is used to split in time, and not kept.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence, Set
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgekd.core.errors import DataError, UnknownName
from edgekd.data import dicom_headers
from edgekd.data.anonymous_names import AnonymousNames
from edgekd.data.dicom_headers import Header
from edgekd.data.file_kinds import DICOM_SUFFIXES, IMAGE_SUFFIXES
from edgekd.data.grouping import NO_GROUPS
from edgekd.data.left_out import LeftOut, Why, places
from edgekd.data.sources import Item, Source


def wrapped(source: Source, patients: bool) -> Source:
    """The source itself, or a `DicomSource` around it where it offers DICOM files.

    `patients`: whether PatientID is a group; data.group_column = "" says that nothing is.

    Raises MissingExtra when there are DICOM files and pydicom is not installed.
    """
    files = {
        item.name: _file(source, item) for item in source.items() if _may_be_dicom(source, item)
    }
    if not files:
        return source
    headers = dicom_headers.read_all(files)
    return DicomSource(source, headers, files.keys() - headers.keys(), patients)


class DicomSource:
    """A source whose items have anonymous names and groups, and dates.

    An item keeps the group that its table names, if it names one; otherwise PatientID is its group.
    Files without an image, such as reports, are left out. `headers`, `unreadable`: as in
    `AnonymousNames`. `patients`: as in `wrapped`.
    """

    def __init__(
        self, source: Source, headers: dict[str, Header], unreadable: Set[str], patients: bool
    ) -> None:
        self.source, self.name = source, source.name
        self._headers = headers
        self._said: list[str] = []
        every = source.items()
        groups = self._groups(every, patients)
        names = AnonymousNames(headers, groups, unreadable, {item.name for item in every})
        left_out = LeftOut()
        self._originals: dict[str, Item] = {}
        self._items: list[Item] = []
        for item in every:
            header, name = headers.get(item.name), names.of(item)
            if header is not None and not header.image:
                left_out.add(Why.NO_PIXELS, name)
                continue
            date = None if header is None else header.date
            group = groups.get(item.name)
            self._items.append(dataclasses.replace(item, name=name, group=group, date=date))
            self._originals[name] = item
        self._warn(list(self._originals.values()), names.changed)
        named = any(item.group is None and item.name in groups for item in every)
        # What a table or a path might say of groups matters no more where PatientID says it.
        told = [text for text in source.facts.warnings if not named or NO_GROUPS not in text]
        self.facts = msgspec.structs.replace(
            source.facts,
            source=f"{source.facts.source} (DICOM)",
            groups_by="PatientID" if named else source.facts.groups_by,
            ignored={**source.facts.ignored, **left_out.counts},
            warnings=[
                names.sentence(self._with_new_names(text))
                for text in [*told, *left_out.warnings(), *self._said]
            ],
        )

    @property
    def labels(self) -> Sequence[str] | None:
        """Every label if an image may have several, else None."""
        return self.source.labels

    def items(self) -> list[Item]:
        """Every image, in the source's order."""
        return list(self._items)

    def path(self, name: str) -> Path:
        """The file of an item, by its anonymous name. Raises DataError where there is none."""
        found = _file(self.source, self._originals[name]) if name in self._originals else None
        if not isinstance(found, Path):
            raise DataError(f"{name}: no such file in {self.name}", "take a name from the report")
        return found

    def load(self, item: Item) -> bytes | NDArray[np.uint8]:
        """What the source loads. Raises DataError with the anonymous name."""
        original = self._originals[item.name]
        try:
            return self.source.load(original)
        except DataError as error:
            what = error.what.replace(original.name, item.name)
            raise DataError(what, error.next_step) from None

    def native_px(self) -> int:
        """The longest side of any image in pixels; 0 when the source does not know it."""
        return self.source.native_px()

    def fingerprint(self) -> str:
        """The source's fingerprint: headers change with their files."""
        return self.source.fingerprint()

    def column(self, name: str) -> dict[str, str]:
        """A column of the source's table by anonymous names.

        "sex", "age" and "view" are taken from the headers where the table has none. Raises
        DataError or UnknownName for any other name that the table does not have.
        """
        values = {
            file: header.about[name]
            for file, header in self._headers.items()
            if name in header.about
        }
        read: Any = getattr(self.source, "column", None)
        try:
            if read is None:
                raise DataError(f"{self.name} has no table with a column {name!r}", "give a CSV")
            values = read(name)
        except (DataError, UnknownName):
            if not values:
                raise
        return {
            anonymous: values[item.name]
            for anonymous, item in self._originals.items()
            if item.name in values
        }

    def _groups(self, items: Sequence[Item], by_patient: bool) -> dict[str, str]:
        """The group of each item by name, as a running number."""
        headers = self._of(items) if by_patient else {}
        patients = {name: header.patient for name, header in headers.items()}
        if len(patients) > 1 and len(set(patients.values())) == 1 and any(patients.values()):
            patients = {name: header.study for name, header in headers.items()}
            self._said.append(
                f"all {len(patients)} DICOM files have the same PatientID, as anonymised files "
                "often do: each study counts as a patient; name the patients in a table if you can"
            )
        without = [name for name, patient in patients.items() if not patient]
        if without:
            self._said.append(
                f"{len(without)} DICOM files have neither PatientID nor StudyInstanceUID, and each "
                f"counts as a patient: {places(without)}"
            )
        numbers: dict[str, str] = {}
        found = {}
        for item in items:
            value = item.group or patients.get(item.name, "")
            if value:
                number = f"patient-{len(numbers) + 1:04}"
                found[item.name] = numbers.setdefault(value, number)
        return found

    def _of(self, items: Sequence[Item]) -> dict[str, Header]:
        """The headers of these items by name; other files than DICOM have none."""
        return {item.name: self._headers[item.name] for item in items if item.name in self._headers}

    def _warn(self, items: Sequence[Item], renamed: int) -> None:
        headers = self._of(items)
        burned = [name for name, header in headers.items() if header.burned_in]
        if burned:
            self._said.append(
                f"{len(burned)} DICOM files say that a person's data is written into the picture "
                f"(BurnedInAnnotation): {places(burned)}. Reports and bundles show pictures"
            )
        bare = [name for name, header in headers.items() if not header.windowed]
        if bare and len(bare) < len(headers):
            self._said.append(
                f"{len(bare)} of {len(headers)} DICOM files have no window and are shown by their "
                f"stored bits: {places(bare)}. data.window=percentiles treats all alike"
            )
        if renamed:
            self._said.append(
                f"{renamed} file names hold a name or a number of their patient and were replaced"
            )

    def _with_new_names(self, text: str) -> str:
        """A sentence with the anonymous names in place of the source's."""
        for name, original in self._originals.items():
            if original.name != name:
                text = text.replace(original.name, name)
        return text


def _may_be_dicom(source: Source, item: Item) -> bool:
    """Whether an item's name is that of a DICOM file, or says nothing."""
    suffix = PurePosixPath(item.name).suffix.lower()
    if suffix in DICOM_SUFFIXES:
        return True
    return suffix not in IMAGE_SUFFIXES and getattr(source, "file", None) is not None


def _file(source: Source, item: Item) -> Path | io.BytesIO:
    """Where an item's file lies, or its bytes for a source without files."""
    find = getattr(source, "file", None)
    found: Path | None = None if find is None else find(item)
    if found is not None:
        return found
    loaded = source.load(item)
    return io.BytesIO(loaded if isinstance(loaded, bytes) else b"")
