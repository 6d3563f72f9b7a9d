"""Weights that a network computes from its parameters become stored weights; those that an image
decides are refused.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.core.errors import UnsupportedNetwork
from edgekd.export.untrained_model import untrained_tflite
from edgekd.quantization import exporting, recording
from edgekd.quantization.constant_folding import fold_constants
from edgekd.quantization.qat_network import Capture, calibrate, finish, prepare
from edgekd.settings import model_specs
from edgekd.tflite.flatbuffer import read
from edgekd.tflite.int8_rules import Int8Rules
from tests.small_networks import MEAN, PX, STD, ComputedWeights, Head, StandardizedConv


@pytest.fixture(params=[exporting.export, recording.record], ids=["torch.export", "recording"])
def capture(request: pytest.FixtureRequest) -> Capture:
    return request.param


class TwoBareWeights(nn.Module):
    """Two convolutions whose weights are parameters of one module, and so have no modules to be
    named after.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Parameter(torch.randn(8, width, 3, 3) * 0.1) for width in (3, 8)
        )
        self.offset, self.head = nn.Parameter(torch.rand(8)), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.first * 2, self.offset - 0.5)
        return self.head(F.conv2d(torch.relu(x), self.second))


class BareWeights(TwoBareWeights):
    """The same without anything to compute."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.conv2d(torch.relu(F.conv2d(x, self.first)), self.second))


class ImageDecides(nn.Module):
    """A mixture of two kernels that the image weighs (CondConv, Yang et al. 2019, arXiv
    1904.04971).
    """

    def __init__(self) -> None:
        super().__init__()
        self.experts, self.route = nn.Parameter(torch.randn(2, 8, 3, 3, 3)), nn.Linear(3, 2)
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        shares = torch.sigmoid(self.route(x.mean((0, 2, 3))))
        return self.head(F.conv2d(x, (shares.reshape(2, 1, 1, 1, 1) * self.experts).sum(0)))


class NoStatistics(nn.Module):
    """A batch norm that normalizes each batch by itself, also in eval form."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)
        self.head = Head(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))))


@pytest.mark.parametrize("network", [ComputedWeights, TwoBareWeights, BareWeights])
def test_folding_keeps_the_function(network: type[nn.Module], capture: Capture) -> None:
    torch.manual_seed(0)
    model = network().eval()
    graph = capture(model, torch.zeros(2, 3, PX, PX))
    fold_constants(graph)
    x = torch.randn(1, 3, PX, PX)
    with torch.no_grad():
        torch.testing.assert_close(graph(x), model(x))


def test_a_folded_weight_takes_the_name_of_its_layer(capture: Capture) -> None:
    network = prepare(ComputedWeights(), PX, MEAN, STD, capture=capture)
    assert [layer.name for layer in network.layers] == ["stem", "conv", "point", "head.fc"]
    assert {path.rpartition(".")[2] for path, _ in network.named_parameters()} == {"weight", "bias"}


def test_layers_with_weights_in_one_module_keep_them_apart(capture: Capture) -> None:
    network = prepare(TwoBareWeights(), PX, MEAN, STD, capture=capture)
    calibrate(network, [torch.rand(1, 3, PX, PX)])
    names = [row["name"] for row in finish(network).layers]
    assert len(set(names)) == len(names) == 3


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            ImageDecides,
            "the weight of conv2d in the network's own forward is computed from the image",
        ),
        (NoStatistics, "the batch norm in module 'norm' has no running statistics"),
    ],
)
def test_what_an_image_decides_is_refused_by_name(
    network: type[nn.Module], message: str, capture: Capture
) -> None:
    with pytest.raises(UnsupportedNetwork, match=message) as error:
        prepare(network(), PX, MEAN, STD, capture=capture)
    assert "edgekd models" in error.value.next_step


def test_a_network_without_batch_norm_gets_its_int8_form() -> None:
    spec = model_specs.spec("nf_resnet26")
    assert read(untrained_tflite(spec, 64, 10, Int8Rules())).counts()["CONV_2D"] == 29


def test_a_standardized_network_is_refused_for_the_op_that_has_no_rule() -> None:
    network = nn.Sequential(StandardizedConv(3, 4), nn.Softplus(), nn.Flatten())
    with pytest.raises(UnsupportedNetwork, match="the op softplus in module '1' has no int8 rule"):
        prepare(network, PX, MEAN, STD)
