"""Where a network looks: how much its answer falls when a part of the image is hidden. numpy only.

Occlusion sensitivity (Zeiler and Fergus 2014, arXiv 1311.2901, section 4.2) asks nothing of a network but answers, so one
method serves a ViT, a CNN and the .tflite itself, and their maps compare.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Labels

Array = npt.NDArray[Any]
SIDE = 8  # cells along each edge of a map
# Cells that a hidden window spans, a quarter of the edge, moved a cell at a time: 49 answers an image. Smaller windows hide
# too little to change an answer, and their number grows with the square.
WINDOW = 2


def windows(px: int) -> list[tuple[slice, slice]]:
    """(rows, columns) of each window in an image of px x px, line by line."""
    edges = [round(cell * px / SIDE) for cell in range(SIDE + 1)]
    spans = [slice(edges[cell], edges[cell + WINDOW]) for cell in range(SIDE - WINDOW + 1)]
    return [(rows, columns) for rows in spans for columns in spans]


def hidden(image: Array) -> Array:
    """Copies of an image [px, px, c], each with one window in the image's mean colour: [49, px, px, c], same dtype."""
    places = windows(len(image))
    copies = np.repeat(image[None], len(places), 0)
    fill = image.reshape(-1, image.shape[-1]).mean(0)
    for copy, (rows, columns) in zip(copies, places, strict=True):
        copy[rows, columns] = np.rint(fill) if image.dtype == np.uint8 else fill
    return copies


def saliency_map(
    answer: Callable[[Array], Array], image: Array, label: int, labels: Labels = "one"
) -> npt.NDArray[np.float32]:
    """float32 [SIDE, SIDE]: by how much the log-odds of one label fall where the image is hidden, in nats.

    `answer`: images [n, px, px, c] -> logits [n, k]. Above zero: speaks for the label; below: against it. A cell's value is
    the mean over the windows that cover it.
    """
    said = answer(np.concatenate([image[None], hidden(image)])).astype(np.float64)
    odds = (
        log_odds(said, label) if labels == "one" else said[:, label]
    )  # a sigmoid's logit is its log-odds
    steps = SIDE - WINDOW + 1
    total, covered = np.zeros((2, SIDE, SIDE))
    for place, drop in enumerate(odds[0] - odds[1:]):
        top, left = divmod(place, steps)
        total[top : top + WINDOW, left : left + WINDOW] += drop
        covered[top : top + WINDOW, left : left + WINDOW] += 1
    return (total / covered).astype(np.float32)


def log_odds(logits: Array, label: int) -> Array:
    """log(p / (1 - p)) of one label, float64 [n], from logits [n, k]."""
    others = np.delete(logits, label, 1)
    top = others.max(1, keepdims=True)
    return logits[:, label] - (top[:, 0] + np.log(np.exp(others - top).sum(1)))
