"""Grey images of more than 8 bits in ordinary files: PNG, TIFF, PGM and JPEG 2000.

Finds out what the file says about its white. Pillow gives the values and drops that.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from edgekd.core.errors import DataError
from edgekd.data.bit_depth import FRACTIONS, FULL, INTEGERS, SCALED, SIGNIFICANT, Wide

_TIFF_BITS = 258  # the tag BitsPerSample


def from_values(
    values: NDArray[np.generic], kind: str, data: bytes, tags: dict[int, object], name: str
) -> Wide:
    """The image with these decoded values.

    `kind`: Pillow's name of the format. `data`: the file. `tags`: its TIFF tags, if it has any.
    Raises DataError when the values are neither 16-bit integers nor floats from 0 to 1 or 255.
    """
    low, high = float(values.min()), float(values.max())
    if np.issubdtype(values.dtype, np.integer) and low >= 0 and high <= FULL:
        return _stated(values.astype(np.uint16), kind, data, tags)
    if np.issubdtype(values.dtype, np.floating) and low >= 0 and high <= 255:
        return Wide(values, None, group=FRACTIONS)
    raise DataError(
        f"{name}: {values.dtype} pixels from {low:g} to {high:g}; black and white cannot be "
        "told from them",
        "save it as 8-bit or 16-bit grey, or build with --set data.on_error=skip",
    )


def _stated(values: NDArray[np.uint16], kind: str, data: bytes, tags: dict[int, object]) -> Wide:
    """The image with the white that its file states, if it states one."""
    if kind == "PNG":
        bits = _png_bits(data)
        return Wide(values, None, group=f"{SIGNIFICANT}{bits}" if bits else INTEGERS)
    if kind == "TIFF" and tags.get(_TIFF_BITS) == (12,):
        return Wide(values, 4095.0)
    if kind == "PPM" and _pgm_maximum(data) != FULL:
        return Wide(values, float(FULL), group=SCALED)  # Pillow scales the stated maximum to 65535
    if kind == "JPEG2000" and 8 < (bits := _jpeg2000_bits(data)) < 16:
        return Wide(values >> (16 - bits), 2.0**bits - 1)  # Pillow shifts to the top of 16 bits
    return Wide(values, None)


def _png_bits(data: bytes) -> int:
    """Significant bits of a grey PNG of 16 bits, from its sBIT chunk; 0 where it has none.

    Of such files some hold values that are scaled up to 16 bits, as PNG demands (PNG, section
    11.3.2.7), and others the bare values. `bit_depth.decide` tells them apart.
    """
    at = 8
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind == b"sBIT":
            bits = data[at + 8] if length else 0
            return bits if 1 <= bits < 16 else 0
        if kind == b"IDAT":
            return 0
        at += 12 + length
    return 0


def _pgm_maximum(data: bytes) -> int | None:
    """The value of white in a PGM's header: the fourth word."""
    # A comment runs from # to the end of its line.
    words = re.sub(rb"#[^\n]*", b"", data[:1024]).split(maxsplit=4)
    return int(words[3]) if len(words) > 3 and words[3].isdigit() else None


def _jpeg2000_bits(data: bytes) -> int:
    """Bits of the first component, from the marker SIZ (ISO/IEC 15444-1, A.5.1); 0 without one."""
    at = data.find(b"\xff\x4f\xff\x51")
    depth = data[at + 42 : at + 43]
    return (depth[0] & 0x7F) + 1 if at >= 0 and depth else 0
