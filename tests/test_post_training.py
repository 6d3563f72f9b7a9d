"""After calibration alone: the means of every layer come back, and answers come nearer to the float
network's.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgekd.networks.builders import normalised
from edgekd.quantization.equalisation import pairs, streams
from edgekd.quantization.post_training import _Means, quantize
from edgekd.quantization.qat_network import QatNetwork, set_phase
from tests.small_networks import MEAN, PX, STD, calibrated, images


def batch(seed: int) -> Tensor:
    return normalised(images(64, PX, seed=seed)[0], MEAN, STD)


@torch.no_grad()
def means(network: QatNetwork, x: Tensor, phase: str) -> dict[str, Tensor]:
    set_phase(network, phase)
    seen = _Means(network)
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
