"""Where a view looks: the part of its image that it shows, turned and mirrored."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgekd.settings.recipe import ViewsConfig
from edgekd.training.counted_random import Numbers, shares

# Largest ratio of the sides of a crop, either way (Szegedy et al. 2015, arXiv 1409.4842).
CROP_RATIO = 4 / 3

Doubles = NDArray[np.float64]  # [n], a number for each image


class _Window(NamedTuple):
    """A part of each image. `zoom`: the square root of its share of the area. `stretch`: the square
    root of its width by its height. `x`, `y`: its middle, -1 to 1.
    """

    zoom: Doubles
    stretch: Doubles
    x: Doubles
    y: Doubles


def affine(config: ViewsConfig, streams: Numbers) -> Doubles:
    """From coordinates of the view to those of the image, both -1 to 1: float64 [n, 2, 3], as
    F.affine_grid takes it. `streams`: of random numbers, uint64 [n].
    """
    angle = uniform(streams, "angle", -config.rotate, config.rotate) * (math.pi / 180)
    mirror = 1 - 2 * chance(streams, "flip", config.flip)
    cos, sin = np.cos(angle), np.sin(angle)
    zoom, stretch, x, y = (
        _crop(config.area, streams) if config.area else _near_whole(config, streams)
    )
    return np.stack(
        [
            np.stack([cos * zoom * stretch * mirror, -sin * zoom / stretch, x], -1),
            np.stack([sin * zoom * stretch * mirror, cos * zoom / stretch, y], -1),
        ],
        1,
    )


def _near_whole(config: ViewsConfig, streams: Numbers) -> _Window:
    """About the whole image."""
    zoom = 1 + uniform(streams, "zoom", -config.scale, config.scale)
    stretch = np.exp(uniform(streams, "aspect", -config.aspect, config.aspect) / 2)
    x, y = (
        uniform(streams, name, -2 * config.shift, 2 * config.shift)
        for name in ("shift x", "shift y")
    )
    return _Window(zoom, stretch, x, y)


def _crop(smallest: float, streams: Numbers) -> _Window:
    """A crop of at least the share `smallest` of the area, inside the image.

    The area is drawn evenly, and then the logarithm of the ratio of the sides, among the ratios
    with which such a crop fits. torchvision's RandomResizedCrop draws both again where a crop does
    not fit instead, which makes large crops rarer.
    """
    area = uniform(streams, "crop area", smallest, 1)
    low = np.log(np.maximum(1 / CROP_RATIO, area))
    high = np.log(np.minimum(CROP_RATIO, 1 / area))
    zoom = np.sqrt(area)
    stretch = np.exp((low + (high - low) * shares(streams, "crop ratio")) / 2)
    free_x, free_y = 1 - zoom * stretch, 1 - zoom / stretch
    x, y = uniform(streams, "crop x", -1, 1) * free_x, uniform(streams, "crop y", -1, 1) * free_y
    return _Window(zoom, stretch, x, y)


# In float64, so that the last bit of a float32 does not depend on where an image lies.
def uniform(streams: Numbers, name: str, low: float, high: float) -> Doubles:
    """A number of each stream, uniform from `low` to `high`."""
    return low + (high - low) * shares(streams, name)


def chance(streams: Numbers, name: str, share: float) -> Doubles:
    """1 for a random share of the streams, and 0 for the others."""
    return (shares(streams, name) < share).astype(np.float64)
