"""Mixed precision: the operators that are bad in int8 are found, and computed in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.core.artifacts import LiteModel, Network, QuantNetwork
from edgekd.core.errors import RecipeError, UnsupportedNetwork
from edgekd.core.number_formats import NumberFormat
from edgekd.export import float_network, format_packages, mixed_precision
from edgekd.networks import builders, recorded_graph, weight_files
from edgekd.networks.inference import logits_of
from edgekd.quantization import foreign_graph
from edgekd.settings.device_profiles import load_profile
from edgekd.tflite import flatbuffer, onnx_runner, real_runner
from edgekd.tflite.int8_rules import Int8Rules
from edgekd.tflite.mixed_precision import with_float_operators
from tests import given_int8

PX, MEAN, STD = 32, [0.5, 0.4, 0.45], [0.25, 0.2, 0.22]


class Uneven(nn.Module):
    """Behind a hard-swish, which cannot be evened out, one channel is 2,000 times another."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.first, self.wide = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 1, 1)
        self.back, self.more = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 3, 2, 1)
        self.head = nn.Linear(16, 3)
        size = torch.logspace(0, spread, 16)
        with torch.no_grad():
            self.wide.weight.mul_(size.reshape(-1, 1, 1, 1))
            self.wide.bias.mul_(size)
            self.back.weight.mul_(10 / size.reshape(1, -1, 1, 1))
            self.head.weight.mul_(30)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = nn.functional.hardswish(self.wide(torch.relu(self.first(images))))
        x = torch.relu(self.more(torch.relu(self.back(x))))
        return self.head(x.mean((2, 3)))


class Made:
    """The network, its images, its logits, and its int8 form."""

    def __init__(self, spread: float, rounding: str = "quick") -> None:
        torch.manual_seed(0)
        graph = foreign_graph.recorded(Uneven(spread).eval(), torch.randn(2, 3, PX, PX))
        options = {recorded_graph.GRAPH: recorded_graph.to_json(graph), "num_classes": 3}
        state = weight_files.to_bytes(graph.state_dict())
        self.network = Network(recorded_graph.ARCH, options, PX, MEAN, STD, [], {}, state)
        draw = np.random.default_rng(0)
        tint, noise = draw.integers(0, 150, (16, 1, 1, 3)), draw.integers(0, 100, (16, PX, PX, 3))
        self.images = (tint + noise).astype(np.uint8)
        batch = builders.normalised(self.images, MEAN, STD)
        self.logits = logits_of(builders.restore(self.network), [batch])
        self.qat: QuantNetwork = given_int8.calibrated(self.network, self.images, rounding)
        self.lite: LiteModel = given_int8.file_of(self.qat)

    def mixed(self) -> bytes:
        judged = mixed_precision.Judged(self.images, self.logits, "one")
        return mixed_precision.mixed_file(
            self.qat, self.lite, self.images, judged, 10**6, lambda _done, _all: None
        )

    def error(self, answers: np.ndarray) -> float:
        return float(np.sqrt(((answers - self.logits) ** 2).mean()))

    def file_error(self, data: bytes) -> float:
        return self.error(real_runner.answers(data, self.images, MEAN, STD))


@pytest.fixture(scope="module")
def uneven() -> Made:
    return Made(spread=3.3)


def test_the_operators_that_are_bad_in_int8_are_found_and_kept_in_float(uneven: Made) -> None:
    made = uneven.mixed()
    assert made == uneven.mixed()
    assert uneven.file_error(made) < 0.1 * uneven.file_error(bytes(uneven.lite.tflite))
    graph = flatbuffer.read(made)
    in_float = [op.name for op in graph.ops if graph.tensors[op.outputs[0]].dtype == "FLOAT32"]
    assert in_float == ["DEQUANTIZE", "CONV_2D", "HARD_SWISH", "CONV_2D"]
    ends = [graph.tensors[index].dtype for index in (*graph.inputs, *graph.outputs)]
    assert ends == ["INT8", "INT8"]
    int8 = flatbuffer.read(uneven.lite.tflite).by_name()
    for tensor in graph.tensors:  # the other weights are those of the certified file
        if tensor.dtype == "INT8" and tensor.data is not None:
            assert (tensor.data == int8[tensor.name].data).all()


def test_weights_that_were_rounded_by_error_are_exact_in_float() -> None:
    made = Made(spread=3.3, rounding="error")
    assert made.file_error(made.mixed()) < 0.1 * made.file_error(bytes(made.lite.tflite))


def test_all_operators_in_float_are_the_network_without_rounding(uneven: Made) -> None:
    everything = range(len(flatbuffer.read(uneven.lite.tflite).ops))
    found = with_float_operators(uneven.lite.tflite, everything, {})
    names = flatbuffer.read(found).counts()
    assert names["QUANTIZE"] == names["DEQUANTIZE"] == 1
    assert with_float_operators(uneven.lite.tflite, [], {}) == bytes(uneven.lite.tflite)


def test_a_network_that_loses_nothing_gets_no_mixed_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_precision, "NOTHING", 1.0)
    with pytest.raises(UnsupportedNetwork, match="int8 loses nothing"):
        Made(spread=0.1).mixed()


def test_mixed_is_for_cpus() -> None:
    asked = (NumberFormat.INT8, NumberFormat.MIXED)
    format_packages.check(asked, load_profile("pi4"))
    assert NumberFormat.MIXED in format_packages.offered(load_profile("android-cpu"))
    for name in ("coral-usb", "android-gpu", "esp32-s3"):
        with pytest.raises(RecipeError, match="int8 and float32 operators"):
            format_packages.check(asked, load_profile(name))


def test_int16x8_is_made_of_the_weights_that_int8_has() -> None:
    """As ONNX that reads the network's own normalised images, with a mean for each channel."""
    made = Made(spread=0.3)
    rounded = float_network.rounded_onnx(made.network, Int8Rules(), made.qat, made.images)
    session = onnx_runner.open_session(rounded)
    pixels = real_runner.normalised(made.images, MEAN, STD).transpose(0, 3, 1, 2)
    found = np.concatenate([session.run(None, {"input": row[None]})[0] for row in pixels])
    assert made.error(found) < 0.02 * made.logits.std()
    assert made.error(found) < 0.7 * made.file_error(bytes(made.lite.tflite))
