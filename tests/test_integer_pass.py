"""The exact answers of a finished network: sums in float32 that are those of integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, fx

from edgekd.quantization import integer_pass
from edgekd.quantization.fakequant import ActivationFakeQuant
from edgekd.quantization.integer_pass import IntegerPass, exact
from edgekd.quantization.qat_network import predict, set_phase
from edgekd.quantization.rounded_layers import Constants, RoundedLayer
from edgekd.tflite.int8_rules import Range
from tests.small_networks import PX, calibrated, images


class Compared(IntegerPass):
    """Compares the sums of each layer with those in float64, and counts the layers."""

    layers = 0

    def _sums(self, n: fx.Node) -> Tensor:
        sums, constants = super()._sums(n), self._layers[n]
        found = constants.bias + sums.double() * constants.step
        x, weight, bias, *options = n.args
        scale = float(self._edges[x.target].scale)
        real = self.env[x].double() * (scale if x in self._as_codes else 1)
        wanted = n.target(real, self.env[weight], self.env[bias], *options)
        assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-9 * float(wanted.abs().max()))
        self.layers += 1
        return sums


@pytest.mark.parametrize("name", ["Branches", "Excite", "Flattened", "Grouped"])
def test_every_layer_sums_as_float64_does(name: str) -> None:
    network = calibrated(name)[0]
    set_phase(network, "frozen")
    pixels = torch.from_numpy(images(4, PX, seed=3)[0]).permute(0, 3, 1, 2)
    run = Compared(exact(network))
    with torch.no_grad():
        run.run(network.pixels(pixels).double())
    assert run.layers == len(network.layers)


@pytest.mark.parametrize("name", ["Branches", "Excite"])
def test_answers_are_those_of_the_network(name: str) -> None:
    """A network that computes in float64 rounds its edges to float32, which moves a few codes."""
    network, shown = calibrated(name)[0], images(32, PX, seed=3)[0]
    set_phase(network, "frozen")
    found = integer_pass.answers(network, shown)
    wanted = predict(exact(network), shown)
    step = float(network.edge("output").scale)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1.01 * step
    assert (np.abs(found - wanted) < step / 2).mean() > 0.98


def test_a_layer_whose_sums_would_not_fit_is_summed_in_float64(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, shown = calibrated("Excite")[0], images(4, PX, seed=3)[0]
    set_phase(network, "frozen")
    wanted = integer_pass.answers(network, shown)
    monkeypatch.setattr(integer_pass, "EXACT_IN_FLOAT32", 1.0)
    assert np.array_equal(integer_pass.answers(network, shown), wanted)


def test_several_threads_answer_as_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    network, shown = calibrated("Branches")[0], images(6, PX, seed=3)[0]
    set_phase(network, "frozen")
    monkeypatch.setattr(integer_pass, "PIXELS", 2 * PX**2)  # three passes
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(integer_pass.answers(network, shown))
    assert np.array_equal(*found)


def test_values_are_rounded_without_a_gradient_as_with_one() -> None:
    """Ties, zeros of both signs and values beyond the range included."""
    edge = ActivationFakeQuant(Range(0.037, -13))
    edge.phase = "frozen"
    x = torch.cat([torch.arange(-300, 300) * 0.5 * 0.037, torch.randn(2000), torch.tensor([-0.0])])
    with torch.no_grad():
        found = edge(x)
    assert torch.equal(found, edge(x))
    assert not bool(torch.signbit(found[found == 0]).any())


@pytest.mark.parametrize("activation", [(float("-inf"), float("inf")), (0.0, 6.0)])
def test_codes_that_float32_leaves_open_are_those_of_float64(
    activation: tuple[float, float],
) -> None:
    """Whole sums that lie on both sides of every middle between two codes, for each channel."""
    step = torch.tensor([2.0, 3.0, 7.0], dtype=torch.float64).sqrt().reshape(1, -1, 1, 1) * 1e-4
    bias = torch.tensor([0.5, -3.0, 7.3], dtype=torch.float64).reshape(1, -1, 1, 1)
    scale, grid = 0.0237, (-100, 155)
    middles = (torch.arange(-110, 165, dtype=torch.float64) + 0.5) * scale
    sums = ((middles.reshape(1, 1, 1, -1) - bias) / step).floor()
    sums = torch.cat([sums, sums + 1], 2).float()
    rounding = RoundedLayer(Constants(torch.ones(3), step, bias), activation, scale, grid)
    assert rounding.in_float32
    real = (bias + sums.double() * step).clamp(*activation)
    assert torch.equal(rounding.codes(sums), (real / scale).round().clamp(*grid).float())


def test_the_extremes_of_maps_whose_channels_lie_last() -> None:
    edge = ActivationFakeQuant()
    edge.phase = "calibrate"
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    edge(x)
    assert (float(edge.low), float(edge.high)) == (float(x.min()), float(x.max()))
