"""Where a network looks: how its answer changes when a part of the image is hidden.

Occlusion sensitivity (Zeiler and Fergus 2014, arXiv 1311.2901, section 4.2) needs only a network's
answers. The same method therefore works for a ViT, a CNN and the .tflite itself, and their maps can
be compared. numpy only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Labels

Array = npt.NDArray[Any]
SIDE = 8  # cells along each edge of a map
# Cells along each edge of the hidden window: a quarter of the image's edge. It moves one cell at a
# time, which takes 49 answers an image. Smaller windows hide too little to change an answer, and
# their number grows with the square.
WINDOW = 2


def windows(px: int) -> list[tuple[slice, slice]]:
    """(rows, columns) of each window in an image of px x px, from left to right, then down."""
    edges = [round(cell * px / SIDE) for cell in range(SIDE + 1)]
    spans = [slice(edges[cell], edges[cell + WINDOW]) for cell in range(SIDE - WINDOW + 1)]
    return [(rows, columns) for rows in spans for columns in spans]


def hidden(image: Array) -> Array:
    """Copies of an image [px, px, c], each with one window filled with the image's mean colour.

    [49, px, px, c], in the image's dtype.
    """
    places = windows(len(image))
    copies = np.repeat(image[None], len(places), 0)
    fill = image.reshape(-1, image.shape[-1]).mean(0)
    for copy, (rows, columns) in zip(copies, places, strict=True):
        copy[rows, columns] = np.rint(fill) if image.dtype == np.uint8 else fill
    return copies


def saliency_map(
    answer: Callable[[Array], Array], image: Array, label: int, labels: Labels = "one"
) -> npt.NDArray[np.float32]:
    """By how much hiding each cell lowers the log-odds of one label, in nats: float32 [SIDE, SIDE].

    `answer`: images [n, px, px, c] -> logits [n, k]. A positive cell is evidence for the label, a
    negative one evidence against it. A cell's value is the mean over the windows that cover it.
    """
    said = answer(np.concatenate([image[None], hidden(image)])).astype(np.float64)
    # a sigmoid's logit is its log-odds
    odds = log_odds(said, label) if labels == "one" else said[:, label]
    steps = SIDE - WINDOW + 1
    total, covered = np.zeros((2, SIDE, SIDE))
    for place, drop in enumerate(odds[0] - odds[1:]):
        top, left = divmod(place, steps)
        total[top : top + WINDOW, left : left + WINDOW] += drop
        covered[top : top + WINDOW, left : left + WINDOW] += 1
    return (total / covered).astype(np.float32)


def log_odds(logits: Array, label: int) -> Array:
    """log(p / (1 - p)) of one class, float64 [n], from logits [n, k]; p is the softmax."""
    others = np.delete(logits, label, 1)
    top = others.max(1, keepdims=True)
    return logits[:, label] - (top[:, 0] + np.log(np.exp(others - top).sum(1)))
