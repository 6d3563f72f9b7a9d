"""What the batches of a training hold."""

from __future__ import annotations

import numpy as np
import torch

from edgekd.recipe import ViewsConfig
from edgekd.targets import Feed
from edgekd.views import Renderer

N = 12


def feed(repeat: int = 0) -> Feed:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (N, 1, 40, 40), dtype=np.uint8)
    numbers = torch.arange(N)
    said = {"logits": torch.stack([numbers, -numbers], 1).repeat(2, 1, 1).half()}  # names the image it speaks of
    return Feed(Renderer(pixels, 32, [0.5], [0.5]), numbers, numbers % 2, 2, ViewsConfig(per_image=2), seed=5, batch=4,
                knowledge=said, repeat=repeat)


def seen(made: Feed, epoch: int) -> dict[int, torch.Tensor]:
    return {int(row[0]): image for batch in made.epoch(epoch) if batch.logits is not None
            for row, image in zip(batch.logits, batch.images, strict=True)}


def test_another_repeat_shows_the_same_views_in_another_order() -> None:
    first, second = seen(feed(), 0), seen(feed(repeat=1), 0)
    assert sorted(first) == sorted(second) == list(range(N))
    assert list(first) != list(second)
    assert all(torch.equal(first[row], second[row]) for row in first)


def test_an_epoch_shows_its_own_view_and_the_views_come_round() -> None:
    first, second, third = (seen(feed(), epoch) for epoch in range(3))
    assert not any(torch.equal(first[row], second[row]) for row in first)
    assert all(torch.equal(first[row], third[row]) for row in first)
