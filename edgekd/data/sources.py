"""The interface between where images come from and the data set that is built from them."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgekd.core.records import UNSET, Record, UnsetType

SPLITS = ("train", "val", "test")
# Spellings of the splits that common data sets use. MIMIC-CXR writes "validate".
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# The split of an image without a label. Only the teacher's answer says what it shows.
UNLABELLED = "unlabelled"
# The text for an image that has none of several possible labels.
NONE = "no label"


def together(findings: tuple[str, ...]) -> str:
    """The labels of one image as one text, for example "Edema + Mass"."""
    return " + ".join(findings) or NONE


@dataclasses.dataclass(frozen=True)
class Item:
    """One image that a source offers and that has not been read yet.

    `name` is unique in its source and relative ("train/cat/1.jpg"). `split` is "train", "val",
    "test", UNLABELLED, or None when the source does not divide its images; the data stage then
    does. Images of one `group` (a patient, for example) stay in one split; None means that the
    image is a group of its own. `findings` holds the labels of an image that may have none or
    several; `label` is then the text that `together` makes of them. `uncertain` holds the labels
    that its author could neither confirm nor exclude; none of them is in `findings`. `date`:
    when the image was made, if that is known.
    """

    name: str
    label: str
    split: str | None = None
    group: str | None = None
    findings: tuple[str, ...] | None = None
    # Not in the text of an item, so that fingerprints stay equal where no label is uncertain.
    uncertain: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    date: dt.date | None = dataclasses.field(default=None, repr=False)  # nor is this

    @property
    def counted(self) -> tuple[str, ...]:
        """What this image counts for in stratified splits: its class, its labels, or NONE."""
        return (self.label,) if self.findings is None else self.findings or (NONE,)


class SourceFacts(Record, frozen=True, kw_only=True):
    """What a source says about itself. These fields become part of the data set's facts."""

    licence: str
    source: str  # for a reader: the folder's name, or the data set's authors and year
    synthetic: bool
    # Version of the program that drew the images, when a program did.
    generator: int | UnsetType = UNSET
    # What names the groups, such as "column 'patient_id'". Absent without groups.
    groups_by: str | UnsetType = UNSET
    # {reason: how many files were left out for it}
    ignored: dict[str, int] = msgspec.field(default_factory=dict)
    # Sentences for the user.
    warnings: list[str] = msgspec.field(default_factory=list)


class Source(Protocol):
    """Where images and labels come from: a folder, a CSV, a Python package, a generator.

    `name` stands in reports. `labels` lists every label, in order, when an image may have several
    (each item then has `findings`); it is None when each image belongs to exactly one class.
    """

    name: str
    facts: SourceFacts

    @property
    def labels(self) -> Sequence[str] | None: ...

    def items(self) -> list[Item]:
        """Every image, in a stable order. Raises DataError for images in the wrong layout."""
        ...

    def load(self, item: Item) -> bytes | NDArray[np.uint8]:
        """The bytes of the image file, or decoded pixels when there is no file.

        Pixels are uint8 [height, width] (grey) or [height, width, 3] (RGB). Called from several
        threads at once. Raises DataError when the image cannot be read.
        """
        ...

    def native_px(self) -> int:
        """The longest side of any image in pixels, or 0 when it is unknown.

        Cached images are never stored larger than this.
        """
        ...

    def fingerprint(self) -> str:
        """A hash that changes when the images may have changed; part of the data stage's key.

        It has to be cheap: it is computed at the start of every build.
        """
        ...
