"""Android's Bitmap.createScaledBitmap with filter = true, which TFLite Support's ResizeOp calls.

It draws the bitmap with Skia's bilinear filter over four neighbours, without mipmaps and so without
antialiasing. Skia's CPU code for 32-bit bitmaps counts places in 16.16 fixed point, keeps 4 bits of
the fraction, and cuts the result off. Sources: Skia, src/core/SkBitmapProcState_matrixProcs.cpp
(`SkBitmapProcStateAutoMapper`, packing of x and y) and SkBitmapProcState_filter.h
(`Filter_32_opaque`); Android, graphics/Bitmap.java; TFLite Support, image/ops/ResizeOp.java.

It was not compared with a phone. Android versions differ in which of Skia's routines they take: one
with full fractions gives values up to 1/16 of the difference of two neighbours away from these.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekd.data.resizers.antialiased import Weights
from edgekd.data.resizers.neighbours import Neighbours

Pixels = NDArray[np.uint8]

FRACTION = 4  # bits of a place between two pixels
FIXED = 16  # bits behind the point of Skia's SkFixed


def _neighbours(source: int, target: int) -> Neighbours:
    """What each result reads, with shares in sixteenths."""
    step = int(source / target * 2**FIXED)
    start = int(0.5 * (source / target) * 2**FIXED) - 2 ** (FIXED - 1)
    place = start + np.arange(target, dtype=np.int64) * step
    first = place >> FIXED
    share = (place >> (FIXED - FRACTION)) & (2**FRACTION - 1)
    return Neighbours(
        np.clip(first, 0, source - 1),
        np.clip(first + 1, 0, source - 1),
        share / 2**FRACTION,
    )


def resize(image: Pixels, width: int, height: int) -> Pixels:
    """uint8 [h, w] or [h, w, 3] at another size."""
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    down, across = _neighbours(image.shape[0], height), _neighbours(image.shape[1], width)
    right, below = (
        (part.share * 2**FRACTION).astype(np.int64).reshape(shape)
        for part, shape in (
            (across, (-1, *[1] * (image.ndim - 2))),
            (down, (-1, *[1] * (image.ndim - 1))),
        )
    )
    one = 2**FRACTION
    upper, lower = (
        part[:, across.first] * (one - right) + part[:, across.second] * right
        for part in (image[down.first].astype(np.int64), image[down.second].astype(np.int64))
    )
    return np.asarray((upper * (one - below) + lower * below) >> (2 * FRACTION), np.uint8)


def weights(source: int, target: int) -> Weights:
    """The same along one side, without the cut."""
    return _neighbours(source, target).weights(source)
