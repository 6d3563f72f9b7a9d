"""Where int8 training puts its fake-quantizers, what it refuses, and that nothing of the network
gets lost on the way.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from edgekd.core.artifacts import QuantNetwork
from edgekd.core.errors import DataError, TrainingDiverged, UnsupportedNetwork, WeightsError
from edgekd.core.packing import pack, unpack
from edgekd.quantization import graphs
from edgekd.quantization.integer_pass import exact
from edgekd.quantization.qat_network import (
    QatNetwork,
    calibrate,
    finish,
    predict,
    prepare,
    set_phase,
)
from edgekd.quantization.restoring import restore
from edgekd.tflite.int8_rules import Int8Rules
from tests.small_networks import MEAN, PX, SMALL, STD, artifact, calibrated, images, normalised

HALF = [0.5] * 3


@pytest.fixture(scope="module")
def mobilenet() -> tuple[QatNetwork, nn.Module]:
    torch.manual_seed(0)
    model = timm.create_model("mobilenetv2_035", num_classes=3).eval()
    for module in model.modules():  # batch norms that do something
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    network = prepare(model, 64, HALF, HALF)
    return network, model


def test_prepared_network_computes_what_the_float_network_computes(
    mobilenet: tuple[QatNetwork, nn.Module],
) -> None:
    """In phase "float": BN folding is exact, the input fold differs only at the padded border."""
    network, model = mobilenet
    pixels, _ = images(5, 64)
    x = normalised(pixels, HALF, HALF)
    with torch.no_grad():
        difference = (network(x) - model(x)).abs().max()
        assert difference < 0.02 * model(x).abs().max()
        assert network(x[:1]).shape == (1, 3), "any batch size"


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_keep_their_function(name: str) -> None:
    network, model, pixels = calibrated(name)
    x = normalised(pixels, MEAN, STD)
    with torch.no_grad():
        expected = model(x)
        set_phase(network, "float")
        assert (network(x) - expected).abs().max() < 0.05 * expected.abs().max()
        set_phase(network, "frozen")
        assert (network(x) - expected).abs().max() < 0.3 * expected.abs().max()


def test_ranges_are_observed_after_the_fused_activation(
    mobilenet: tuple[QatNetwork, nn.Module],
) -> None:
    network, _ = mobilenet
    activations = [name for name in network.edges if name.endswith("act")]
    assert len(activations) == 35
    assert len(network.layers) == 53
    assert (
        len(network.edges) == 53 + 10 + 3
    )  # layers, additions, input, pool, flatten: nothing before a ReLU6
    calibrate(copy.deepcopy(network), [normalised(images(4, 64)[0], HALF, HALF)])
    sources = {layer.source for layer in network.layers} | {
        layer.target for layer in network.layers
    }
    assert sources <= set(network.edges)
    assert network.writers["input"] == "INPUT"
    assert network.writers["output"] == "FULLY_CONNECTED"
    assert network.writers["blocks.1.1"] == "ADD"
    assert network.writers["bn1.act"] == "CONV_2D"


def test_activation_ranges_after_relu6_start_at_zero() -> None:
    network, _, _ = calibrated("Branches")
    found = network.edge("stem.2").range
    assert found.zero_point == -128
    assert found.scale <= float(np.float32(6 / 255))


def test_same_scale_ops_share_one_quantiser() -> None:
    network, _, _ = calibrated("Branches")
    assert (
        network.writers["Branches" if "Branches" in network.writers else "cat"] == "CONCATENATION"
    )
    parts = [network.edge(name) for name in ("relu", "right.2", "cat")]
    assert parts[0] is parts[1] is parts[2]
    pools, _, _ = calibrated("Pools")
    assert pools.edge("max") is pools.edge("stem.2")


def test_pixels_are_exact_codes() -> None:
    """Whatever mean and std are, the image's code is pixel - 128."""
    network, _, pixels = calibrated("Pools")
    real = network.pixels(torch.from_numpy(pixels))
    assert (network.input_range.quantize(real.numpy()) == pixels.astype(int) - 128).all()
    x = normalised(pixels, MEAN, STD)
    set_phase(network, "frozen")
    with torch.no_grad():
        assert torch.equal(network(x), network.graph(real.permute(0, 3, 1, 2).contiguous()))


class Unruly(nn.Module):
    """Holds one op under the name `odd`, after a convolution."""

    def __init__(self, odd: nn.Module) -> None:
        super().__init__()
        self.conv, self.odd, self.fc = nn.Conv2d(3, 8, 3), odd, nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.odd(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("odd", "op"),
    [
        (nn.Mish(), "mish"),
        (nn.Tanh(), "tanh"),
        (nn.MaxPool2d(3, 1, 1, dilation=2), "max pooling with dilation"),
        (nn.Hardtanh(0, 4), "hardtanh(0, 4)"),
        (nn.AvgPool2d(3, 2, 1, count_include_pad=False), "TFLite's SAME is [0, 0, 1, 1]"),
        (nn.LayerNorm([30, 30]), "a layer norm"),
        (nn.AdaptiveMaxPool2d(4), "adaptive_max_pool2d"),
        (nn.ReflectionPad2d(1), "pad"),
    ],
)
def test_an_op_without_a_rule_is_refused_by_name(odd: nn.Module, op: str) -> None:
    with pytest.raises(UnsupportedNetwork) as caught:
        prepare(Unruly(odd), PX, HALF, HALF)
    assert op in caught.value.what
    assert "odd" in caught.value.what
    assert caught.value.next_step


class Joined(nn.Module):
    """Concatenates a sigmoid, whose range is fixed, with a map, whose range is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head(torch.cat([x, torch.sigmoid(x)], 1).mean((2, 3)))


def test_a_form_without_a_rule_is_refused() -> None:
    with pytest.raises(UnsupportedNetwork, match="range is fixed") as caught:
        prepare(Joined(), PX, HALF, HALF)
    assert caught.value.next_step


def test_control_flow_on_data_is_refused() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3)))

    with pytest.raises(UnsupportedNetwork, match="captured"):
        prepare(Branching(), PX, HALF, HALF)


def test_training_moves_weights_and_then_freezes_ranges() -> None:
    network, _, pixels = calibrated("Excite")
    x, labels = normalised(pixels, MEAN, STD), torch.from_numpy(images(16, PX)[1])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    before = [parameter.clone() for parameter in network.parameters()]
    first = finish_ranges(network)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()

    step()
    moving = finish_ranges(network)
    assert moving != first, "ranges follow in phase observe"
    set_phase(network, "frozen")
    step()
    assert finish_ranges(network) == moving
    assert all(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def finish_ranges(network: QatNetwork) -> list[tuple[str, float, int]]:
    return [
        (name, network.edge(name).range.scale, network.edge(name).range.zero_point)
        for name in network.edges
    ]


def test_artifact_rebuilds_the_same_network_without_pickle() -> None:
    network, _, pixels = calibrated("Branches")
    qnet = artifact(network)
    expected = predict(network, pixels)
    again = unpack(QuantNetwork, pack(qnet))
    torch.manual_seed(1)
    rebuilt = restore(again, SMALL["Branches"]())
    assert predict(rebuilt, pixels, batch=5).tobytes() == expected.tobytes()
    assert finish(rebuilt).state == qnet.state
    with pytest.raises(WeightsError, match="does not fit"):
        restore(again, SMALL["Excite"]())


def test_the_exact_copy_has_the_same_codes_in_float64() -> None:
    """Weights and biases on the same grid, sums without float32's error, and the network itself as
    it was.
    """
    network, _, pixels = calibrated("Branches")
    set_phase(network, "frozen")
    before = predict(network, pixels)
    copied = exact(network)
    for layer in network.layers:
        rounded = [
            part.graph.get_submodule(layer.quantizer)(graphs.getattr_path(part.graph, layer.weight))
            for part in (network, copied)
        ]
        scale = (
            network.graph.get_submodule(layer.quantizer)
            .scale.double()
            .reshape(-1, *[1] * (rounded[0].ndim - 1))
        )
        codes = [torch.round(weight.double() / scale) for weight in rounded]
        assert rounded[1].dtype == torch.float64
        assert torch.equal(*codes)
        assert torch.equal(rounded[1], codes[1] * scale)
    step = network.edge("output").range.scale
    assert np.abs(predict(copied, pixels) - before).max() <= step
    assert predict(network, pixels).tobytes() == before.tobytes()


def test_weight_scales_are_those_of_the_last_step() -> None:
    """A scale left over from before the last optimiser step would put codes beyond 127 or waste the
    grid.
    """
    network, _, _ = calibrated("Pools")
    with torch.no_grad():
        for layer in network.layers:
            network.graph.get_parameter(layer.weight).mul_(3)
    import safetensors.numpy

    state = safetensors.numpy.load(finish(network).state)
    for layer in network.layers:
        weight, scale = state[f"{layer.name}.weight"], state[f"{layer.name}.scale"]
        assert np.abs(weight).max() / scale.max() == pytest.approx(127, rel=1e-5)


def test_bad_calibration_is_refused() -> None:
    network, _, pixels = calibrated("Pools")
    with pytest.raises(DataError, match="no calibration images"):
        calibrate(network, [])
    with torch.no_grad():
        network.graph.get_parameter(network.layers[0].weight).fill_(float("nan"))
    with pytest.raises(TrainingDiverged):
        calibrate(network, [normalised(pixels, MEAN, STD)])


def test_profile_rules_shape_the_graph() -> None:
    network, _, _ = calibrated(
        "Branches", pooling="average_pool", classifier="per_tensor", softmax="append"
    )
    assert "AVERAGE_POOL_2D" in network.writers.values()
    assert "MEAN" not in network.writers.values()
    assert network.writers["output"] == "SOFTMAX"
    assert (network.edge("output").range.scale, network.edge("output").range.zero_point) == (
        1 / 256,
        -128,
    )
    import safetensors.numpy

    state = safetensors.numpy.load(finish(network).state)
    assert state["head.fc.scale"].shape == (1,)
    assert state["left.0.scale"].shape == (8,)
    assert Int8Rules.from_dict(network.rules.to_dict()) == network.rules
