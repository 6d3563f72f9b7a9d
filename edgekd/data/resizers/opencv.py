"""cv2.resize: INTER_LINEAR, its default, and INTER_AREA.

INTER_LINEAR reads four neighbours, with half-pixel centres and without antialiasing. For uint8 its
weights have 11 bits. Source: OpenCV, modules/imgproc/src/resize.cpp (`INTER_RESIZE_COEF_BITS`,
`HResizeLinear`, `VResizeLinear`, `computeResizeAreaTab`). Compared with opencv-python-headless
5.0.0 on x86: at most one step apart. cv2 takes INTER_AREA where exactly half of both sides is asked
for; this file does the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekd.data.resizers.antialiased import Weights
from edgekd.data.resizers.neighbours import Neighbours, half_pixel

Pixels = NDArray[np.uint8]

BITS = 11  # INTER_RESIZE_COEF_BITS: weights are whole numbers of 2^-11


def linear(image: Pixels, width: int, height: int) -> Pixels:
    """INTER_LINEAR: uint8 [h, w] or [h, w, 3] at another size."""
    if image.shape[:2] == (2 * height, 2 * width):
        return area(image, width, height)
    return _mixed(image, half_pixel(image.shape[1], width), half_pixel(image.shape[0], height))


def _mixed(image: Pixels, across: Neighbours, down: Neighbours) -> Pixels:
    """Results from two neighbours in each direction."""
    left, right = (part.reshape(-1, *[1] * (image.ndim - 2)) for part in _codes(across))
    above, below = (
        (part[:, across.first] * left + part[:, across.second] * right)
        for part in (image[down.first].astype(np.int64), image[down.second].astype(np.int64))
    )
    top, bottom = (part.reshape(-1, *[1] * (image.ndim - 1)) for part in _codes(down))
    # The order of the shifts is OpenCV's: products of 16 bits.
    mixed = ((top * (above >> 4)) >> 16) + ((bottom * (below >> 4)) >> 16)
    return np.asarray(np.clip((mixed + 2) >> 2, 0, 255), np.uint8)


def _codes(of: Neighbours) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The weights of the first and the second neighbour as whole numbers of 2^-11."""
    second = np.rint(of.share * 2**BITS).astype(np.int64)
    return np.rint((1.0 - of.share) * 2**BITS).astype(np.int64), second


def linear_weights(source: int, target: int) -> Weights:
    """INTER_LINEAR along one side, without rounding."""
    return half_pixel(source, target).weights(source)


def area(image: Pixels, width: int, height: int) -> Pixels:
    """INTER_AREA: uint8 [h, w] or [h, w, 3] at another size. To enlarge, it reads neighbours."""
    if width > image.shape[1] or height > image.shape[0]:
        return _mixed(image, _enlarged(image.shape[1], width), _enlarged(image.shape[0], height))
    rows, columns = area_weights(image.shape[0], height), area_weights(image.shape[1], width)
    mixed = np.tensordot(rows, image.astype(np.float64), (1, 0))
    mixed = np.moveaxis(np.tensordot(columns, mixed, (1, 1)), 0, 1)
    if image.shape[:2] == (2 * height, 2 * width):
        return np.asarray(np.floor(mixed + 0.5), np.uint8)  # OpenCV: (sum of four + 2) >> 2
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)


def _enlarged(source: int, target: int) -> Neighbours:
    """What INTER_AREA reads where one side grows: a result between two pixels mixes them only as
    far as it lies over both.
    """
    scale, inverse = source / target, target / source
    first = np.floor(np.arange(target) * scale).astype(np.int64)
    share = (np.arange(target) + 1 - (first + 1) * inverse).astype(np.float32)
    share = np.where(share <= 0, 0.0, share - np.floor(share)).astype(np.float64)
    last = source - 1
    return Neighbours(np.minimum(first, last), np.minimum(first + 1, last), share)


def area_weights(source: int, target: int) -> Weights:
    """INTER_AREA along one side: the share of each source pixel that a result covers."""
    if target > source:
        return _enlarged(source, target).weights(source)
    scale = source / target
    low = np.arange(target)[:, None] * scale
    places = np.arange(source)
    covered = np.minimum(low + scale, places + 1) - np.maximum(low, places)
    return np.asarray(np.clip(covered, 0.0, 1.0) / scale)
