"""The certificate passes for the trained network, and names the tensor or operator of
each fault.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekd.core.artifacts import LiteModel, QuantNetwork
from edgekd.core.errors import ModelFileError
from edgekd.core.records import to_json
from edgekd.export.onnx_export import export
from edgekd.export.tflite_convert import convert
from edgekd.networks import builders
from edgekd.proof.certificate import certify
from edgekd.quantization import qat_network
from edgekd.quantization.restoring import restore
from edgekd.tflite import int8_rules
from edgekd.tflite.runtime import describe, run
from tests.trained import HALF, calibrated

IMAGES = np.random.default_rng(3).integers(0, 256, (12, 64, 64, 3), np.uint8)


def whole(arch: str) -> tuple[QuantNetwork, LiteModel, np.ndarray]:
    """The network, its file, and the outputs that the network itself gives."""
    qnet = calibrated(arch, 64)
    lite = convert(export(qnet, builders.create(arch, qnet.options)))
    return (
        qnet,
        lite,
        qat_network.predict(restore(qnet, builders.create(arch, qnet.options)), IMAGES),
    )


@pytest.fixture(scope="module")
def v2() -> tuple[QuantNetwork, LiteModel, np.ndarray]:
    return whole("mobilenetv2_050")


@pytest.mark.parametrize(
    "arch", ["mobilenetv2_050", "mobilenetv1_100", "tf_efficientnet_lite0", "resnet18"]
)
def test_exact(arch: str) -> None:
    """Every scale, zero point and code is identical, and every operator is within 1 LSB."""
    qnet, lite, answers = whole(arch)
    body = to_json(certify(qnet, lite, IMAGES, answers))
    assert [
        row for row in body["failures"] if row["check"] != "end_to_end"
    ] == []  # random weights: argmax means nothing
    assert body["ranges"]["identical"] == body["ranges"]["tensors"] > 20
    for part in ("weights", "biases"):
        assert body[part]["identical_codes"] == body[part]["total_codes"] > 0
    assert body["op_local"]["max_lsb"] <= 1
    assert lite.facts["full_integer"] is True
    assert not {"QUANTIZE", "DEQUANTIZE", "TRANSPOSE"} & lite.facts["ops"].keys()


def tampered(lite: LiteModel, change: Any) -> LiteModel:
    """The file after `change(model)`, through the object API of the schema."""
    model = schema.ModelT.InitFromPackedBuf(bytes(lite.tflite), 0)
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return dataclasses.replace(lite, tflite=bytes(builder.Output()))


def middle(model: Any, op_inputs: int) -> tuple[Any, Any]:
    """The graph, and an input of a convolution in its middle (0 activation, 1 weight, 2 bias)."""
    graph = model.subgraphs[0]
    convs = [op for op in graph.operators if len(op.inputs) == 3]
    return graph, graph.tensors[convs[len(convs) // 2].inputs[op_inputs]]


def scale(model: Any) -> str:
    _, tensor = middle(model, 0)
    tensor.quantization.scale = [float(np.float32(tensor.quantization.scale[0] * 1.01))]
    return tensor.name.decode()


def zero_point(model: Any) -> str:
    _, tensor = middle(model, 0)
    tensor.quantization.zeroPoint = [int(tensor.quantization.zeroPoint[0]) + 1]
    return tensor.name.decode()


def weight(model: Any) -> str:
    _, tensor = middle(model, 1)
    data = np.array(model.buffers[tensor.buffer].data, np.uint8)
    data[7] ^= 1
    model.buffers[tensor.buffer].data = data
    return tensor.name.decode()


def bias(model: Any) -> str:
    _, tensor = middle(model, 2)
    data = np.array(model.buffers[tensor.buffer].data, np.uint8).view(np.int32).copy()
    data[3] += 5
    model.buffers[tensor.buffer].data = data.view(np.uint8)
    return tensor.name.decode()


@pytest.mark.parametrize(
    ("fault", "check"),
    [(scale, "ranges"), (zero_point, "ranges"), (weight, "weights"), (bias, "biases")],
)
def test_a_fault_is_named(
    v2: tuple[QuantNetwork, LiteModel, np.ndarray], fault: Any, check: str
) -> None:
    qnet, lite, answers = v2
    names: list[str] = []
    broken = tampered(lite, lambda model: names.append(fault(model)))
    body = to_json(certify(qnet, broken, IMAGES, answers))
    assert body["passed"] is False
    found = [row for row in body["failures"] if row["check"] == check]
    assert [row["tensor"] for row in found] == names
    assert all(row["next_step"] and row["expected"] != row["found"] for row in found)


def test_repacking_alone_is_no_fault(v2: tuple[QuantNetwork, LiteModel, np.ndarray]) -> None:
    qnet, lite, answers = v2
    body = to_json(certify(qnet, tampered(lite, lambda model: None), IMAGES, answers))
    assert [row for row in body["failures"] if row["check"] != "end_to_end"] == []


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_refused_before_the_interpreter_sees_it(
    v2: tuple, share: float
) -> None:
    data = bytes(v2[1].tflite)
    for read in (describe, lambda cut: run(cut, IMAGES[:1])):
        with pytest.raises(ModelFileError):
            read(data[: int(len(data) * share)])


def test_ranges_hold_zero_and_the_ends() -> None:
    rng = np.random.default_rng(0)
    for low, high in rng.uniform(-10, 10, (200, 2)):
        low, high = min(low, high), max(low, high)
        found = int8_rules.range_from_minmax(low, high)
        assert -128 <= found.zero_point <= 127
        assert found.dequantize(np.array([found.zero_point], np.int8))[0] == 0
        reals = np.linspace(min(low, 0), max(high, 0), 50)
        assert np.abs(found.dequantize(found.quantize(reals)) - reals).max() <= found.scale * 1.01


@pytest.mark.parametrize(
    ("mean", "std"), [(HALF, HALF), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
)
def test_a_pixel_less_128_means_what_the_network_was_trained_on(
    mean: list[float], std: list[float]
) -> None:
    """For every pixel and channel: gain * scale * (pixel - 128 - zero_point) + offset = (pixel /
    255 - mean) / std.
    """
    found = int8_rules.input_range(mean, std)
    gain, offset = int8_rules.input_fold(mean, std)
    pixels = np.arange(256)[:, None]
    meant = gain * found.scale * (pixels - 128 - found.zero_point) + offset
    assert np.allclose(meant, (pixels / 255 - np.array(mean)) / np.array(std), atol=1e-6)


def test_no_bias_leaves_int32() -> None:
    """For nearly dead channels, the floor of the scale keeps every bias code inside half
    of int32.
    """
    bias, tiny = np.array([5.0, -3.0]), np.full((2, 4), 1e-9, np.float32)
    floor = int8_rules.weight_scale_floor(bias, 0.02, 0.05)
    scales = int8_rules.weight_scales(tiny, 0, floor)
    assert np.abs(int8_rules.bias_codes(bias, 0.02, scales)).max() <= 2**30 + 2**7
