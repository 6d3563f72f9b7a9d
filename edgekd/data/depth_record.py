"""What is published of images of more than 8 bits: how they became pixels."""

from __future__ import annotations

import enum

from edgekd.core.records import UNSET, Record, UnsetType


class WindowKind(enum.StrEnum):
    """How the values of a DICOM file become grey levels: the setting data.window."""

    FILE = "file"
    PERCENTILES = "percentiles"
    BITS = "bits"


class Depth(Record, frozen=True, kw_only=True):
    """How images of more than 8 bits became pixels (`Dataset.facts["depth"]`).

    `stored`: bits of the data set's pixels. `images`: how many images have more than 8 bits.
    `bits`: the setting data.bits, where it decides. `whites`: what is white in images that do not
    say it, by group: "integers", "fractions" (floats), or "sBIT 12" (PNG's significant bits).
    `clipped`: images with values above white, which became white. `window`, `window_number`: how
    DICOM files became grey levels, where the settings are not the default ones.
    """

    stored: int = 16
    images: int
    clipped: int
    whites: dict[str, float]
    bits: int | UnsetType = UNSET
    window: WindowKind | UnsetType = UNSET
    window_number: int | UnsetType = UNSET

    def __str__(self) -> str:
        """In words: "white 4095, 12 bits"."""
        white = sorted({value for group, value in self.whites.items() if group != "fractions"})
        told = [f"white {value:g}, {int(value).bit_length()} bits" for value in white]
        if "fractions" in self.whites:
            told.append(f"white {self.whites['fractions']:g} in floats")
        if not isinstance(self.bits, UnsetType):
            told = [f"white {2**self.bits - 1}, data.bits = {self.bits}"]
        return ", ".join(told) or "white as each file says"
