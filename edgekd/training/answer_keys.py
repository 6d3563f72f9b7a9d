"""The key of an answer: a hash of the image and of the view of it that a network saw.

A view is a function of the image, the ranges in the recipe, the seed, and the number of the view,
so that these stand for it. The place of an image in its data set does not count: answers stay good
when images are added.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from torch import Tensor

from edgekd.core.artifacts import Dataset, Json, canonical_json
from edgekd.settings.recipe import ViewsConfig
from edgekd.training import views
from edgekd.training.counted_random import Numbers, number, scramble
from edgekd.training.views import Views


def of_view(
    config: ViewsConfig, seed: int, view: int, images: Numbers, rows: Tensor, drawn: Views
) -> Numbers:
    """The keys of a view of the images `rows`, uint64 [len(rows)].

    `images`: what stands for each image of the data set. `drawn`: the parameters of the view. Two
    of a million images with eight views each share a key with a probability of 2 in a million.
    """
    # How many views there are changes none of them, and teachers see no resizer of an app.
    ranges = dataclasses.asdict(dataclasses.replace(config, per_image=1))
    del ranges["resizers"]
    if not config.area:  # answers from before this setting have keys without it
        del ranges["area"]
    if not views.is_plain(config, view):  # other views are the same with and without it
        del ranges["plain"]
    asked, partners = rows.numpy(), drawn.partner[rows].numpy()
    keys = scramble(
        views.starts(seed, view, images[asked]) ^ number("ranges", canonical_json(ranges))
    )
    mixed = (drawn.share[rows] < 1).numpy()
    return np.where(mixed, scramble(keys ^ scramble(images[partners])), keys)


def of_pixels(dataset: Dataset) -> Json:
    """What decides the pixels of an image besides its file: the size and how it came to it."""
    return {"px": dataset.px, "fit": dataset.facts.get("fit"), "depth": dataset.facts.get("depth")}
