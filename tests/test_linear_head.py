"""The linear head of a frozen network: the fit is the minimum; held-out images set the decay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.training import linear_head
from edgekd.training.linear_head import DECAYS, Head
from edgekd.training.view_features import Features


def fit(features: Tensor, labels: Tensor, classes: int, decay: float, seed: int) -> Head:
    """A head on features in memory."""
    return linear_head.fit(Features.of(features), labels, classes, decay, seed)


def clouds(
    n: int, seed: int, features: int = 40, classes: int = 3, apart: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Two similar views of n images around `classes` centres [2, n, features], and their labels."""
    centres = apart * torch.randn(classes, features, generator=torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    own = centres[labels] + 3 * torch.randn(n, features, generator=draw)
    return own + 0.3 * torch.randn(2, n, features, generator=draw), labels


def cross_entropy(head: Head, images: tuple[Tensor, Tensor]) -> float:
    features, labels = images
    return F.cross_entropy(F.linear(features[0], head.weight, head.bias), labels).item()


@pytest.mark.parametrize("seed", range(3))
def test_the_chosen_decay_is_near_the_best_on_images_never_seen(seed: int) -> None:
    train, test = clouds(90, 10 + seed), clouds(3000, 20 + seed)
    heads = {decay: fit(*train, 3, decay, seed) for decay in DECAYS}
    lost = {decay: cross_entropy(head, test) for decay, head in heads.items()}
    chosen = fit(*train, 3, 0.0, seed)
    assert chosen.decay in DECAYS
    assert lost[chosen.decay] <= 1.2 * min(lost.values())
    assert (
        lost[chosen.decay] < 0.85 * lost[0.001]
    )  # the weakest is sure of what it has learnt by heart
    assert torch.equal(chosen.weight, heads[chosen.decay].weight)


def test_many_images_of_easy_classes_are_decayed_less_than_few_of_hard_ones() -> None:
    easy = fit(*clouds(600, 1, features=5, apart=4), 3, 0.0, 0)
    hard = fit(*clouds(45, 1), 3, 0.0, 0)
    assert easy.decay < hard.decay


def test_views_of_an_image_are_held_out_together() -> None:
    """Otherwise the other view of an image would reveal its class, and no decay would look best."""
    features, labels = clouds(
        60, 3, apart=0.0
    )  # nothing to be learnt, but each image to be known again
    assert fit(features, labels, 3, 0.0, 0).decay == max(DECAYS)


def test_a_given_decay_is_kept_and_the_fit_is_the_minimum() -> None:
    features, labels = clouds(60, 5)
    head = fit(features, labels, 3, 0.05, 0)
    assert head.decay == 0.05
    flat, y = features.flatten(0, 1), labels.repeat(2)
    std = flat.std(0)

    def value(weight: Tensor, bias: Tensor) -> Tensor:
        return (
            F.cross_entropy(F.linear(flat, weight, bias), y) + 0.025 * (weight * std).square().sum()
        )

    weight, bias = head.weight.clone().requires_grad_(), head.bias.clone().requires_grad_()
    slopes = torch.autograd.grad(value(weight, bias), (weight, bias))
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-3
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        step = 0.05 * torch.randn(head.weight.shape, generator=draw)
        assert value(head.weight + step, head.bias) > value(head.weight, head.bias)


def test_scale_and_origin_of_features_change_no_answer() -> None:
    features, labels = clouds(60, 7)
    plain = fit(features, labels, 3, 0.0, 0)
    moved = fit(20 * features - 7, labels, 3, 0.0, 0)
    assert plain.decay == moved.decay
    torch.testing.assert_close(
        F.linear(features[0], plain.weight, plain.bias),
        F.linear(20 * features[0] - 7, moved.weight, moved.bias),
        rtol=1e-2,
        atol=1e-2,
    )


def test_rare_classes_count_as_much_as_common_ones() -> None:
    features, labels = clouds(600, 9, features=4, classes=2, apart=0.0)
    rare = torch.cat([torch.where(labels == 0)[0][:270], torch.where(labels == 1)[0][:30]])
    head = fit(features[:, rare], labels[rare], 2, 1.0, 0)
    assert F.linear(features[0], head.weight, head.bias).softmax(1).mean(
        0
    ).tolist() == pytest.approx([0.5, 0.5], abs=0.05)


def test_several_labels_an_image() -> None:
    features, first = clouds(90, 11, classes=2)
    labels = torch.stack([first, 1 - first, torch.arange(90) % 3 // 2], 1)
    head = fit(features, labels, 3, 0.0, 0)
    said = F.linear(features[0], head.weight, head.bias)
    assert head.decay in DECAYS
    assert ((said[:, 0] > 0).long() == first).float().mean() > 0.9
    torch.testing.assert_close(
        said[:, 0], -said[:, 1], rtol=0.05, atol=0.05
    )  # each label by itself, and these are opposite
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(features.shape, generator=draw)
    candidates = {"noise": Features.of(noise), "features": Features.of(features)}
    tried = linear_head.compare(candidates, labels[:, :2], 2, 1.0, 0)
    assert linear_head.better(tried) == "features"


def test_one_image_and_a_class_without_any() -> None:
    features, labels = clouds(1, 13)
    assert fit(features, labels, 3, 0.0, 0).decay == max(DECAYS)
    features, labels = clouds(12, 13)
    head = fit(features, labels, 5, 0.0, 0)
    assert bool(head.weight.isfinite().all())
