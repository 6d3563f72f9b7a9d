"""Nearest neighbour: the source pixel that holds the centre of the result, as Pillow's NEAREST,
Android's filter = false, and PyTorch's "nearest-exact" take it.

cv2.INTER_NEAREST and PyTorch's "nearest" take the pixel at floor(x * source / target), which lies
up to half a result further to the top and left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekd.data.resizers.antialiased import Weights

Pixels = NDArray[np.uint8]


def _places(source: int, target: int) -> NDArray[np.int64]:
    return np.floor((np.arange(target) + 0.5) * (source / target)).astype(np.int64)


def resize(image: Pixels, width: int, height: int) -> Pixels:
    """uint8 [h, w] or [h, w, 3] at another size."""
    rows, columns = _places(image.shape[0], height), _places(image.shape[1], width)
    return np.ascontiguousarray(image[rows][:, columns])


def weights(source: int, target: int) -> Weights:
    """The same along one side: one 1 in each row."""
    return np.eye(source)[_places(source, target)]
