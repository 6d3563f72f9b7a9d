"""Images in a model's frame, and what the model makes of a frame before its first layer.

`reduced` repeats the file's integer arithmetic, so that everything before the file can work on
images of the network's own size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekd.core.frames import Frame

Pixels = NDArray[np.uint8]

SHIFT = 128  # between a pixel and the int8 code that the file computes with


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

    As AVERAGE_POOL_2D does it on int8 codes: the mean, rounded half away from zero.
    """
    found = np.empty((len(frames), frame.px, frame.px, frames.shape[3]), np.uint8)
    rows, columns = _square(frame)
    count = frame.factor**2
    for place, whole in enumerate(frames):  # one by one: the sums of all would take much memory
        cut = whole[rows, columns].astype(np.int32)
        shape = (frame.px, frame.factor, frame.px, frame.factor, -1)
        sums = cut.reshape(shape).sum((1, 3)) - SHIFT * count
        rounded = np.sign(sums) * ((np.abs(sums) + count // 2) // count)
        found[place] = rounded + SHIFT
    return found


def _square(frame: Frame) -> tuple[slice, slice]:
    return (
        slice(frame.top, frame.top + frame.side),
        slice(frame.left, frame.left + frame.side),
    )
