"""The published label files that are known by their header, and where a release keeps them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from edgekd.core import files
from edgekd.data import csv_text
from edgekd.data.chest_xrays import chest_xray14, chexpert, mimic_cxr, padchest, vindr_cxr
from edgekd.data.label_table import LabelTable
from edgekd.settings.recipe import DataConfig


@dataclasses.dataclass(frozen=True)
class Format:
    """One published label file.

    `places`: patterns for it below the folder of a release. `known`: whether a header is its own.
    `read`: reads it, with the files that belong to it.
    """

    places: tuple[str, ...]
    known: Callable[[Sequence[str]], bool]
    read: Callable[[Path, DataConfig], LabelTable]


FORMATS = (
    Format(("Data_Entry_2017*.csv",), chest_xray14.known, chest_xray14.read),
    Format(("train.csv",), chexpert.known, chexpert.read),
    Format(
        ("mimic-cxr-*-chexpert.csv*", "mimic-cxr-*-negbio.csv*"), mimic_cxr.known, mimic_cxr.read
    ),
    Format(("PADCHEST*.csv*",), padchest.known, padchest.read),
    Format(
        ("image_labels_train.csv", "annotations/image_labels_train.csv"),
        vindr_cxr.known,
        vindr_cxr.read,
    ),
    Format(("train.csv",), vindr_cxr.known_boxes, vindr_cxr.read_boxes),
)


def read(path: Path, config: DataConfig) -> LabelTable | None:
    """The rows of a published label file; None for a CSV with another header.

    Raises DataError for one that cannot be read or that lacks a file which belongs to it.
    """
    header = csv_text.header(path)
    form = next((each for each in FORMATS if each.known(header)), None)
    return None if form is None else form.read(path, config)


def find_in(folder: Path) -> Path | None:
    """The published label file in the folder of a release; None when there is none.

    Raises PathError when the folder cannot be looked at.
    """
    if not files.is_folder(folder, "--data"):
        return None
    for form in FORMATS:
        for place in form.places:
            for path in sorted(folder.glob(place)):
                if form.known(csv_text.header(path)):
                    return path
    return None
