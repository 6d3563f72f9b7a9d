"""After calibration alone: the means of every layer come back, and answers come nearer to the float
network's.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgekd.networks.builders import normalised
from edgekd.quantization import quick_rounding
from edgekd.quantization.equalisation import pairs, streams
from edgekd.quantization.layer_means import LayerMeans
from edgekd.quantization.post_training import quantize
from edgekd.quantization.qat_network import QatNetwork, calibrate, prepare, set_phase
from tests.small_networks import MEAN, PX, SMALL, STD, calibrated, images


def batch(seed: int) -> Tensor:
    return normalised(images(64, PX, seed=seed)[0], MEAN, STD)


def prepared(name: str) -> QatNetwork:
    torch.manual_seed(0)
    return prepare(SMALL[name](), PX, MEAN, STD)


@torch.no_grad()
def means(network: QatNetwork, x: Tensor, phase: str) -> dict[str, Tensor]:
    set_phase(network, phase)
    seen = LayerMeans(network)
    seen.run(network.on_grid(x))
    return seen.means


@pytest.mark.parametrize("name", ["Branches", "Excite", "Flattened", "Grouped"])
def test_each_layer_has_its_float_mean_again(name: str) -> None:
    """Up to the steps of the int32 biases, which are hundreds of times finer than what was off."""
    network, x = calibrated(name)[0], batch(1)
    scaled = {maker.bias for maker, _ in pairs(network)} | {
        maker.bias for each in streams(network) for maker in each.makers
    }
    wanted, before = means(network, x, "float"), means(network, x, "frozen")
    quantize(network, [x])
    after = means(network, x, "frozen")
    assert wanted.keys() == {layer.bias for layer in network.layers}
    early, late = (
        max(
            float((found[bias] - wanted[bias]).abs().max() / wanted[bias].abs().max())
            for bias in wanted.keys() - scaled
        )
        for found in (before, after)
    )
    assert late < 5e-4 < 2e-3 < early


@pytest.mark.parametrize("name", ["Branches", "Pools", "GateOfSum", "Borders"])
def test_answers_are_nearer_to_the_float_networks(name: str) -> None:
    """On other images than those it was corrected on."""
    network, others = calibrated(name)[0], batch(2)
    with torch.no_grad():
        set_phase(network, "float")
        wanted = network(others)
        set_phase(network, "frozen")
        plain = (network(others) - wanted).square().mean()
        quantize(network, [batch(1)])
        corrected = (network(others) - wanted).square().mean()
    assert corrected < 0.9 * plain


@pytest.mark.parametrize("name", ["Branches", "Excite", "Flattened", "Grouped"])
def test_rounded_to_nearest_each_layer_has_its_float_mean_again(name: str) -> None:
    network, x = prepared(name), batch(1)
    wanted = means(network, x, "float")
    scaled = {maker.bias for each in streams(network) for maker in each.makers}
    quick_rounding.quantize(network, [x[:40], x[40:]])
    after = means(network, x, "frozen")
    late = max(
        float((after[bias] - wanted[bias]).abs().max() / wanted[bias].abs().max())
        for bias in wanted.keys() - scaled
    )
    assert late < 5e-4


@pytest.mark.parametrize("name", ["Branches", "Pools", "GateOfSum", "Borders"])
def test_quickly_rounded_answers_are_nearer_than_by_calibration_alone(name: str) -> None:
    """Ranges are those of calibration where no channels were scaled, and answers come nearer."""
    network, plain, others = prepared(name), prepared(name), batch(2)
    calibrate(plain, [batch(1)])
    quick_rounding.quantize(network, [batch(1)])
    uneven = frozenset().union(*(each.edges for each in streams(network)))
    for edge in network.edges.keys() - uneven:
        assert network.edge(edge).range == plain.edge(edge).range
    with torch.no_grad():
        set_phase(plain, "float")
        wanted = plain(others)
        set_phase(plain, "frozen")
        before, after = ((each(others) - wanted).square().mean() for each in (plain, network))
    assert after < 0.9 * before


@pytest.mark.parametrize("name", ["Branches", "Pools", "Ghost", "Borders"])
def test_layers_with_few_weights_are_rounded_for_their_output(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    others, error = batch(2), {}
    for taps in (0, quick_rounding.FEW_TAPS):
        network = prepared(name)
        with torch.no_grad():
            set_phase(network, "float")
            wanted = network(others)
        monkeypatch.setattr(quick_rounding, "FEW_TAPS", taps)
        quick_rounding.quantize(network, [batch(1)])
        with torch.no_grad():
            error[taps] = (network(others) - wanted).square().mean()
    assert error[taps] < 0.9 * error[0]


def test_quickly_rounded_in_parts_the_ranges_are_those_of_all_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, parts = prepared("Branches"), prepared("Branches")
    quick_rounding.quantize(whole, [batch(1)])
    monkeypatch.setattr(quick_rounding, "PIXELS", 20 * PX**2)
    quick_rounding.quantize(parts, [batch(1)])
    for edge in whole.edges:
        assert parts.edge(edge).range.scale == pytest.approx(whole.edge(edge).range.scale, rel=1e-5)
