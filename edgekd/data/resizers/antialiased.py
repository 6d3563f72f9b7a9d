"""Weights of filters that average over all source pixels that a result covers.

A result at place x reads the source around (x + 0.5) * scale, with scale = source / target. When
the image shrinks, the filter is stretched by the scale. Weights of places outside the image are
left out, and the rest is divided by its sum. This is what Pillow does (its `Resample.c`,
`precompute_coeffs`); the filters' formulas are those of its documentation, "Filters".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
Filter = Callable[[Weights], Weights]


def stretched(source: int, target: int, shape: Filter, support: float) -> Weights:
    """Weights [target, source] of the filter `shape`, which is 0 beyond `support`."""
    scale = source / target
    wide = max(scale, 1.0)
    centre = (np.arange(target) + 0.5) * scale
    reach = support * wide
    first = np.maximum(np.floor(centre - reach + 0.5), 0)
    last = np.minimum(np.floor(centre + reach + 0.5), source)
    places = np.arange(source)
    found = shape((places - centre[:, None] + 0.5) / wide)
    found[(places < first[:, None]) | (places >= last[:, None])] = 0.0
    return np.asarray(found / found.sum(1, keepdims=True))


def triangle(x: Weights) -> Weights:
    """The filter of bilinear resampling: 1 - |x|, to 1."""
    return np.maximum(1.0 - np.abs(x), 0.0)


def cubic(x: Weights) -> Weights:
    """The filter of bicubic resampling with a = -0.5, to 2 (Keys 1981, IEEE ASSP 29)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def lanczos3(x: Weights) -> Weights:
    """The filter sinc(x) sinc(x / 3), to 3 (Duchon 1979, J. Appl. Meteorology 18)."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


def bilinear(source: int, target: int) -> Weights:
    """Pillow's BILINEAR."""
    return stretched(source, target, triangle, 1.0)


def bicubic(source: int, target: int) -> Weights:
    """Pillow's BICUBIC."""
    return stretched(source, target, cubic, 2.0)
