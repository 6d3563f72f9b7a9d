"""What the batches of a training hold."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from edgekd.settings.recipe import ViewsConfig
from edgekd.training.batches import Feed, cells
from edgekd.training.cached_answers import CachedAnswers
from edgekd.training.views import Renderer
from tests.answers import told

N = 12


def feed(repeat: int = 0) -> Feed:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (N, 1, 40, 40), dtype=np.uint8)
    numbers = torch.arange(N)
    said = {
        "logits": torch.stack([numbers, -numbers], 1).repeat(2, 1, 1).half()
    }  # names the image it speaks of
    return Feed(
        Renderer(pixels, 32, [0.5], [0.5]),
        numbers.numpy().astype(np.uint64),
        numbers,
        numbers % 2,
        2,
        ViewsConfig(per_image=2),
        seed=5,
        batch=4,
        knowledge=CachedAnswers(told(said)),
        repeat=repeat,
    )


def seen(made: Feed, epoch: int) -> dict[int, torch.Tensor]:
    return {
        int(row[0]): image
        for batch in made.epoch(epoch)
        if batch.logits is not None
        for row, image in zip(batch.logits, batch.images, strict=True)
    }


def test_another_repeat_shows_the_same_views_in_another_order() -> None:
    first, second = seen(feed(), 0), seen(feed(repeat=1), 0)
    assert sorted(first) == sorted(second) == list(range(N))
    assert list(first) != list(second)
    assert all(torch.equal(first[row], second[row]) for row in first)


def test_an_epoch_shows_its_own_view_and_the_views_come_round() -> None:
    first, second, third = (seen(feed(), epoch) for epoch in range(3))
    assert not any(torch.equal(first[row], second[row]) for row in first)
    assert all(torch.equal(first[row], third[row]) for row in first)


def test_each_group_of_each_class_is_drawn_as_often() -> None:
    """10 of 12 images show the mark of a group. The other two then make half of what is drawn."""
    labels, groups = torch.arange(N) % 2, (torch.arange(N) >= N - 2).long()
    drawn = cells("group", labels, groups)
    assert drawn is not None
    assert drawn.tolist() == (labels * 2 + groups).tolist()
    made = dataclasses.replace(feed(), labels=labels, cells=drawn)
    seen = torch.cat(
        [
            batch.rows
            for epoch in range(100)
            for batch in made.epoch(epoch)
            if batch.rows is not None
        ]
    )
    shares = drawn[seen].bincount(minlength=4) / len(seen)
    assert torch.allclose(
        shares, torch.full((4,), 0.25), atol=0.05
    )  # 1,200 draws: standard error 0.0125


def test_what_is_drawn_evenly() -> None:
    labels, groups = torch.tensor([0, 1, -1]), torch.tensor([0, 1, 1])
    found = cells("group", labels, groups)
    assert found is not None
    assert found.tolist() == [0, 3, -1]  # nobody has said what the last one shows
    assert cells("sample", labels, groups) is labels
    assert cells("none", labels, groups) is cells("loss", labels, groups) is None
    several = torch.tensor([[0, 1], [1, 1], [0, 0]])
    assert cells("sample", several, groups) is None
    assert cells("group", several, groups) is groups
