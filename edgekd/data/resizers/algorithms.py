"""The table of all resizers: what each does to pixels, and its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgekd.core.resizer_names import Resizer
from edgekd.data import images
from edgekd.data.resizers import android, antialiased, ios, nearest, opencv
from edgekd.data.resizers.antialiased import Weights

Pixels = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """One resizer.

    `resize(image, width, height)`: uint8 [h, w] or [h, w, 3] at another size, as the platform makes
    it. `weights(source, target)`: the same along one side as float64 [target, source], whose rows
    add up to 1.
    """

    resize: Callable[[Pixels, int, int], Pixels]
    weights: Callable[[int, int], Weights]


ALGORITHMS: dict[Resizer, Algorithm] = {
    Resizer.PILLOW: Algorithm(images.resized, antialiased.bilinear),
    Resizer.PILLOW_BICUBIC: Algorithm(images.resized_bicubic, antialiased.bicubic),
    Resizer.OPENCV: Algorithm(opencv.linear, opencv.linear_weights),
    Resizer.OPENCV_AREA: Algorithm(opencv.area, opencv.area_weights),
    Resizer.ANDROID: Algorithm(android.resize, android.weights),
    Resizer.IOS: Algorithm(ios.resize, ios.weights),
    Resizer.NEAREST: Algorithm(nearest.resize, nearest.weights),
}


def fitted(image: Pixels, px: int, mode: str, resizer: Resizer) -> Pixels:
    """`images.fit` with another resizer: uint8 [h, w] or [h, w, 3] at px x px."""
    return images.fit(image, px, mode, ALGORITHMS[resizer].resize)
