"""Tests the preprocessing of a user's network on some labelled images before anything is built.

Wrong means, a wrong scale or a wrong order of colours cost a network much of its accuracy, and
nothing else shows it. The images are therefore answered under the usual preprocessings. When one of
them is right much more often than the one that was asked for, that one is named.
"""

from __future__ import annotations

import numpy as np

from edgekd.core.artifacts import Network
from edgekd.core.errors import RecipeError
from edgekd.data import images as image_files
from edgekd.data import pixel_rules
from edgekd.data.bit_depth import narrowed
from edgekd.data.decoding import decoded
from edgekd.data.sources import Source
from edgekd.data.splits import draw
from edgekd.networks.foreign import preprocessings
from edgekd.networks.foreign.model import CONVERT
from edgekd.quantization.given_network import classes
from edgekd.settings.recipe import Recipe


def check(source: Source, network: Network, settings: Recipe) -> None:
    """Raise RecipeError when a usual preprocessing is right much more often than the asked one."""
    shown, labels = _sample(source, network, settings)
    better = preprocessings.better(network, shown, labels)
    if better is not None:
        order = settings.convert.order
        raise RecipeError(
            f"{settings.convert.model}: {better.told(CONVERT, order)}",
            f"convert it with {better.way.flags(CONVERT, order)}",
        )


def _sample(source: Source, network: Network, settings: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, px, px, channels] and their classes, int64 [n], drawn by the seed."""
    items = [item for item in source.items() if item.split != "unlabelled"]
    names = sorted({item.label for item in items})
    numbers = [names.index(item.label) for item in items]
    chosen = [items[row] for row in draw(numbers, preprocessings.IMAGES, settings.seed)]
    rules = pixel_rules.from_settings(settings.data, network.px)
    channels, shown, labels = len(network.mean), [], []
    for item, image in decoded(source, chosen, rules, None):
        if isinstance(image, Exception) or image.pixels is None:
            continue  # the data stage names images that cannot be read
        pixels = narrowed(image.pixels)
        shown.append(pixels[..., None] if channels == 1 else image_files.as_rgb(pixels))
        labels.append(names.index(item.label))
    assert len(names) == len(classes(network))
    return np.stack(shown), np.array(labels)
