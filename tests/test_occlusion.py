"""Occlusion maps: they light up where a network looks, whatever the network."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.evaluation import occlusion
from edgekd.evaluation.occlusion import SIDE


def looks_at(rows: slice, columns: slice):
    """A network of two classes that sees one part of an image alone: brighter there is class 1."""

    def answer(images: np.ndarray) -> np.ndarray:
        seen = images[:, rows, columns].astype(np.float64).mean((1, 2, 3)) - 100
        return np.stack([-seen, seen], 1) / 10

    return answer


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_map_lights_up_where_the_network_looks(dtype: type) -> None:
    px = 64
    image = np.full((px, px, 3), 60, dtype)
    image[8:16, 40:56] = 240
    found = occlusion.saliency_map(looks_at(slice(8, 16), slice(40, 56)), image, 1)
    assert found.shape == (SIDE, SIDE)
    assert found[1, 5:7].tolist() == [found.max()] * 2
    assert np.abs(found[3:]).max() == 0  # no window there touches what is looked at
    assert np.abs(found[:, :4]).max() == 0
    other = occlusion.saliency_map(looks_at(slice(8, 16), slice(40, 56)), image, 0)
    assert other == pytest.approx(
        -found
    )  # of two classes, what speaks for one speaks against the other


def test_what_speaks_against_an_answer_is_below_zero() -> None:
    """A dark patch inside the part that is looked at: hiding it makes the answer surer."""
    image = np.full((64, 64, 1), 60, np.float32)
    image[0:32, 0:64] = 200
    image[0:16, 48:64] = 0
    found = occlusion.saliency_map(looks_at(slice(0, 32), slice(0, 64)), image, 1)
    assert found[0, 7] < 0 < found[2, 1]


def test_log_odds_by_hand() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1]]))
    assert occlusion.log_odds(logits, 0)[0] == pytest.approx(np.log(0.7 / 0.3))


def test_every_pixel_is_hidden_once_at_least() -> None:
    for px in (32, 96, 100, 140):
        seen = np.zeros((px, px), int)
        for rows, columns in occlusion.windows(px):
            seen[rows, columns] += 1
        assert seen.min() == 1
        assert seen.max() == occlusion.WINDOW**2
