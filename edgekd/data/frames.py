"""Images in a model's frame, and what the model makes of a frame before its first layer.

`reduced` repeats the file's integer arithmetic, so that everything before the file can work on
images of the network's own size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekd.core.frames import Filter, Frame

Pixels = NDArray[np.uint8]


def placed(image: Pixels, frame: Frame) -> Pixels:
    """An image uint8 [side, side] or [side, side, c] in the middle of a black frame."""
    return centred(image, frame.height, frame.width)


def centred(image: Pixels, height: int, width: int) -> Pixels:
    """An image uint8 [h, w] or [h, w, c] in the middle of a black one of height x width."""
    if image.shape[:2] == (height, width):
        return image
    whole = np.zeros((height, width, *image.shape[2:]), np.uint8)
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    whole[top : top + image.shape[0], left : left + image.shape[1]] = image
    return whole


def reduced(frames: Pixels, frame: Frame) -> Pixels:
    """Frames uint8 [n, height, width, c] as the network sees them: uint8 [n, px, px, c].

    As the file does it: rows first, then columns, each rounded to whole pixels.
    """
    found = np.empty((len(frames), frame.px, frame.px, frames.shape[3]), np.uint8)
    rows = slice(frame.top, frame.top + frame.side)
    columns = slice(frame.left, frame.left + frame.side)
    for place, whole in enumerate(frames):  # one by one: the sums of all would take much memory
        narrow = _along_rows(whole[rows, columns], frame)
        found[place] = _along_rows(narrow.swapaxes(0, 1), frame).swapaxes(0, 1)
    return found


def _along_rows(image: Pixels, frame: Frame) -> Pixels:
    """An image uint8 [h, side, c] reduced along its rows: uint8 [h, px, c]."""
    pixels = image.astype(np.int32)
    inner = pixels[:, frame.factor - frame.outside : frame.side - frame.factor + frame.outside]
    first, last = frame.first_filter, frame.last_filter
    parts = (
        _means(pixels[:, : len(first.weights)], first, 1),
        _means(inner, frame.filter, frame.factor),
        _means(pixels[:, -len(last.weights) :], last, 1),
    )
    return np.concatenate(parts, 1).astype(np.uint8)


def _means(pixels: NDArray[np.int32], by: Filter, step: int) -> NDArray[np.int32]:
    """The weighted means of [h, w, c] along the rows, one every `step` pixels, rounded."""
    count = (pixels.shape[1] - len(by.weights)) // step + 1
    sums = np.full((len(pixels), count, pixels.shape[2]), by.nudge, np.int32)
    for place, code in enumerate(by.codes):
        sums += code * pixels[:, place : place + (count - 1) * step + 1 : step]
    return (2 * sums + by.divisor) // (2 * by.divisor)
