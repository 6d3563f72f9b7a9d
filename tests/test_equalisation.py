"""Equalization: answers stay, weak channels get more codes, only where the exchange is exact."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgekd.networks.builders import normalised
from edgekd.quantization.equalisation import (
    HEADROOM,
    LARGEST,
    equalise,
    even_factors,
    free_factors,
    pairs,
    streams,
)
from edgekd.quantization.qat_network import calibrate, prepare, set_phase
from tests.small_networks import MEAN, PX, STD, Head, calibrated, images


class Separable(nn.Module):
    """A stem of uneven channels (one dead, one clipped at 6), a depthwise layer that reads it
    alone, and a head.
    """

    def __init__(self, act: type[nn.Module], shared: bool = False) -> None:
        super().__init__()
        self.shared = shared
        self.stem, self.act, self.depthwise = (
            nn.Conv2d(3, 8, 3, 2, 1),
            act(),
            nn.Conv2d(8, 8, 3, 1, 1, groups=8),
        )
        self.head = Head(8)
        with torch.no_grad():
            sizes = torch.tensor([20, 4, 1, 0.3, 0.1, 0.05, 0.03, 0]).reshape(-1, 1, 1, 1)
            self.stem.weight.mul_(sizes)
            self.stem.bias.zero_()
            self.depthwise.weight.div_(sizes.clamp(min=0.03))  # so that every channel counts

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.stem(x))
        return self.head(self.depthwise(x) + x if self.shared else self.depthwise(x))


@pytest.mark.parametrize("act", [nn.ReLU6, nn.ReLU])
def test_weak_channels_are_finer_and_answers_stay(act: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = prepare(Separable(act), PX, MEAN, STD)
    x = normalised(images(32, PX)[0], MEAN, STD)
    calibrate(network, [x])

    def said(phase: str) -> torch.Tensor:
        set_phase(network, phase)
        return network(x)

    with torch.no_grad():
        wanted, before = said("float"), said("frozen")
        ranges = {name: network.edge(name).range for name in network.edges}
        equalise(network, [x])
        same, after = said("float"), said("frozen")
    assert torch.allclose(same, wanted, rtol=1e-3, atol=1e-3 * float(wanted.std()))
    assert network.edge("act").range == ranges["act"]
    assert (after - wanted).square().mean() < 0.5 * (before - wanted).square().mean()


def test_hard_swish_what_is_negative_too_and_a_channel_that_others_read_are_left_alone() -> None:
    for network in (
        Separable(nn.Hardswish),
        Separable(nn.Identity),
        Separable(nn.ReLU6, shared=True),
    ):
        assert pairs(prepare(network, PX, MEAN, STD)) == []
    assert len(pairs(prepare(Separable(nn.ReLU6), PX, MEAN, STD))) == 1


def test_factors_fill_the_range_but_for_some_room() -> None:
    full, ten, almost, dead, tiny = free_factors(torch.tensor([6, 0.6, 5.9, 0, 1e-4])).tolist()
    assert full == almost == 1
    assert ten == pytest.approx(10 / HEADROOM)
    assert dead == tiny == LARGEST
    assert torch.isfinite(free_factors(torch.zeros(4))).all()


class Residual(nn.Module):
    """A linear stream of uneven channels: a projection, a block that adds to it, and whole
    convolutions that read it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.project = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 8, 1)
        self.expand, self.back, self.last = (
            nn.Conv2d(8, 16, 1),
            nn.Conv2d(16, 8, 1),
            nn.Conv2d(8, 16, 1),
        )
        self.head = Head(16)
        sizes = 10.0 ** -torch.linspace(0, 2, 8).reshape(-1, 1, 1, 1)
        with torch.no_grad():
            for maker in (self.project, self.back):
                maker.weight.mul_(sizes)
                maker.bias.mul_(sizes.flatten())
            for reader in (self.expand, self.last):
                reader.weight.div_(sizes.reshape(1, -1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.project(torch.relu(self.stem(x)))
        x = x + self.back(torch.relu(self.expand(x)))
        return self.head(torch.relu(self.last(x)))


def test_a_stream_is_scaled_alike_at_both_ends_of_its_sums() -> None:
    torch.manual_seed(0)
    network = prepare(Residual(), PX, MEAN, STD)
    (stream,) = [each for each in streams(network) if len(each.makers) > 1]
    assert {layer.name for layer in stream.makers} == {"project", "back"}
    assert {layer.name for layer in stream.readers} == {"expand", "last"}
    x = normalised(images(32, PX)[0], MEAN, STD)
    calibrate(network, [x])
    with torch.no_grad():
        set_phase(network, "float")
        wanted = network(x)
        set_phase(network, "frozen")
        before = (network(x) - wanted).square().mean()
        equalise(network, [x])
        set_phase(network, "float")
        assert torch.allclose(network(x), wanted, rtol=1e-4, atol=1e-5)
        set_phase(network, "frozen")
        after = (network(x) - wanted).square().mean()
    assert after < 0.5 * before


@pytest.mark.parametrize("name", ["Branches", "Pools", "Excite"])
def test_answers_stay_where_channels_are_joined_pooled_and_gated(name: str) -> None:
    network = calibrated(name)[0]
    x = normalised(images(16, PX)[0], MEAN, STD)
    with torch.no_grad():
        set_phase(network, "float")
        wanted = network(x)
        equalise(network, [x])
        set_phase(network, "float")
        assert torch.allclose(network(x), wanted, rtol=1e-3, atol=1e-3 * float(wanted.std()))


def test_an_edge_that_never_moves_is_left_as_it_is() -> None:
    assert torch.isfinite(
        even_factors({"dead": torch.zeros(4), "alive": torch.tensor([1.0, 0.5, 0.25, 0.0])})
    ).all()
    assert torch.isfinite(even_factors({"dead": torch.zeros(4)})).all()
