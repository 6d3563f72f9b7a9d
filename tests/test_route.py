"""The whole int8 route on real parts: train, export, convert, certify; and faults put in on
purpose, caught by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from edgekd.core.artifacts import Certificate, Exported, LiteModel, QuantNetwork
from edgekd.core.errors import DataError, ModelFileError
from edgekd.core.packing import pack, unpack
from edgekd.core.records import to_json
from edgekd.export.onnx_export import export
from edgekd.export.tflite_convert import convert
from edgekd.proof.certificate import certify
from edgekd.quantization.qat_network import calibrate, prepare, set_phase
from edgekd.tflite import flatbuffer, onnx_runner
from edgekd.tflite import runtime as lite
from tests.routes import Route, follow
from tests.small_networks import artifact, images, normalised

PX = 64
HALF = [0.5] * 3


def mobilenet() -> nn.Module:
    return timm.create_model("mobilenetv2_035", num_classes=3)


@pytest.fixture(scope="module")
def route() -> Route:
    """A mobilenetv2_035 that learnt three classes of generated images, with int8 in the loop at the
    end.
    """
    torch.manual_seed(0)
    model = mobilenet().train()
    pixels, labels = images(192, PX)
    x, y = normalised(pixels, HALF, HALF), torch.from_numpy(labels)

    def train(network: nn.Module, steps: int, lr: float) -> None:
        optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
        for step in range(steps):
            part = slice(step * 32 % 192, step * 32 % 192 + 32)
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[part]), y[part], label_smoothing=0.1).backward()
            optimizer.step()

    train(model, 48, 0.02)
    for module in model.modules():  # statistics of the last weights, not of the way there
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        model(x)
    network = prepare(model, PX, HALF, HALF)
    calibrate(network, x.split(32))
    train(network, 6, 1e-4)
    set_phase(network, "frozen")
    train(network, 6, 1e-4)
    return follow(artifact(network, "mobilenetv2_035"), mobilenet, *images(200, PX, seed=1))


@pytest.fixture(scope="module")
def certificate(route: Route) -> Certificate:
    return Certificate(to_json(certify(route.qnet, route.lite, route.images, route.logits)))


def test_certificate_of_a_trained_mobilenet(certificate: Certificate) -> None:
    body = certificate.body
    assert body["failures"] == []
    assert body["passed"] is True
    assert body["schema"] == "edgekd.certificate/1"
    assert body["ranges"]["identical"] == body["ranges"]["tensors"] == 71
    for part in ("weights", "biases"):
        assert body[part]["tensors"] == 53
        assert body[part]["identical_codes"] == body[part]["total_codes"]
    assert body["op_local"]["max_lsb"] <= 1
    assert body["op_local"]["ops"] == 70
    assert body["op_local"]["share_exact"] > 0.99
    assert body["end_to_end"]["argmax_agreement"] >= 0.995
    assert sum(body["end_to_end"]["histogram"].values()) == 200 * 3
    pack(certificate)  # plain JSON


def test_the_network_learnt_something(route: Route) -> None:
    """Agreement on chance answers would prove little."""
    assert (route.logits.argmax(1) == route.labels).mean() > 0.9


def test_file_is_full_integer_and_says_what_tensorflow_says(route: Route) -> None:
    facts = lite.describe(route.lite.tflite)
    assert facts["full_integer"] is True
    assert facts["ops"] == {
        "ADD": 10,
        "CONV_2D": 35,
        "DEPTHWISE_CONV_2D": 17,
        "FULLY_CONNECTED": 1,
        "MEAN": 1,
        "PAD": 5,
        "RESHAPE": 1,
    }
    assert facts["input"]["dtype"] == facts["output"]["dtype"] == "int8"
    assert facts["input"]["shape"] == [1, PX, PX, 3]
    graph = flatbuffer.read(route.lite.tflite)
    # as TensorFlow 2.21's converter writes these ops in int8
    versions = {
        "ADD": 2,
        "CONV_2D": 3,
        "DEPTHWISE_CONV_2D": 3,
        "FULLY_CONNECTED": 4,
        "MEAN": 2,
        "PAD": 2,
        "RESHAPE": 1,
    }
    assert {op.name: op.version for op in graph.ops} == versions
    assert [part.buffer for part in graph.model.subgraphs[0].tensors] == list(
        range(1, len(graph.tensors) + 1)
    )
    assert all(part.shapeSignature is None for part in graph.model.subgraphs[0].tensors)
    (entry,) = graph.model.metadata
    assert (entry.name, bytes(graph.model.buffers[entry.buffer].data)) == (
        b"min_runtime_version",
        b"1.14.0".ljust(16, b"\0"),
    )
    assert all(code.deprecatedBuiltinCode == code.builtinCode for code in graph.model.operatorCodes)


def test_constants_are_aligned(route: Route) -> None:
    """Kernels load weights with aligned vector loads; schema.fbs asks for 16 bytes."""
    data = bytes(route.lite.tflite)
    for part in flatbuffer.read(data).tensors:
        if part.data is not None and part.data.nbytes >= 64:
            assert data.find(part.data.tobytes()) % 16 == 0, part.name


def test_exporting_and_converting_again_gives_equal_bytes(route: Route) -> None:
    assert convert(export(route.qnet, route.model())) == route.lite


def test_onnx_agrees_with_the_trained_network(route: Route) -> None:
    logits = onnx_runner.logits(route.exported.qdq, route.images)
    assert logits.shape == route.logits.shape
    assert (logits.argmax(1) == route.logits.argmax(1)).mean() >= 0.995
    with pytest.raises(DataError, match="takes"):
        onnx_runner.logits(route.exported.qdq, route.images[:, :32])
    with pytest.raises(ModelFileError):
        onnx_runner.logits(bytes(route.exported.qdq)[:1000], route.images)


@pytest.mark.parametrize("kernels", lite.KERNELS)
def test_every_set_of_kernels_gives_the_same_answers(route: Route, kernels: str) -> None:
    logits = lite.logits(route.lite.tflite, route.images, kernels=kernels)
    assert (logits.argmax(1) == route.logits.argmax(1)).mean() >= 0.985


def test_artifacts_survive_the_store(route: Route) -> None:
    for artifact_, kind in (
        (route.qnet, QuantNetwork),
        (route.exported, Exported),
        (route.lite, LiteModel),
    ):
        assert unpack(kind, pack(artifact_)) == artifact_


# Faults put in on purpose: the certificate must fail and name the place.


def tampered(route: Route, change: Callable[[dict[str, Any], Any], None]) -> LiteModel:
    """The file with one change: change({tensor name: schema tensor}, schema model)."""
    graph = flatbuffer.read(route.lite.tflite)
    tensors = {part.name.decode(): part for part in graph.model.subgraphs[0].tensors}
    change(tensors, graph.model)
    return dataclasses.replace(route.lite, tflite=flatbuffer.write(graph.model))


def poke(model: Any, part: Any, dtype: type, change: Callable[[np.ndarray], None]) -> None:
    buffer = model.buffers[part.buffer]
    values = np.frombuffer(bytes(bytearray(buffer.data)), dtype).copy()
    change(values)
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)


def one_scale(tensors: dict[str, Any], _model: Any) -> None:
    tensors["blocks.2.1.bn1.act"].quantization.scale = tensors[
        "blocks.2.1.bn1.act"
    ].quantization.scale * np.float32(1.01)


def one_bit_of_a_scale(tensors: dict[str, Any], _model: Any) -> None:
    part = tensors["blocks.2.1.bn1.act"].quantization
    part.scale = np.nextafter(part.scale, np.float32(1), dtype=np.float32)


def one_zero_point(tensors: dict[str, Any], _model: Any) -> None:
    tensors["blocks.3.0.conv_pwl"].quantization.zeroPoint = (
        tensors["blocks.3.0.conv_pwl"].quantization.zeroPoint + 1
    )


def one_weight_code(tensors: dict[str, Any], model: Any) -> None:
    def change(codes: np.ndarray) -> None:
        codes[7] += 1 if codes[7] < 100 else -1

    poke(model, tensors["blocks.4.0.conv_dw.weight"], np.int8, change)


def one_bias(tensors: dict[str, Any], model: Any) -> None:
    def change(codes: np.ndarray) -> None:
        codes[3] += 1

    poke(model, tensors["conv_head.bias"], np.int32, change)


def one_weight_scale(tensors: dict[str, Any], _model: Any) -> None:
    scale = np.array(tensors["classifier.weight"].quantization.scale)
    scale[1] *= np.float32(1.01)
    tensors["classifier.weight"].quantization.scale = scale


@pytest.mark.parametrize(
    ("change", "check", "place"),
    [
        (one_scale, "ranges", "blocks.2.1.bn1.act"),
        (one_bit_of_a_scale, "ranges", "blocks.2.1.bn1.act"),
        (one_zero_point, "ranges", "blocks.3.0.conv_pwl"),
        (one_weight_code, "weights", "blocks.4.0.conv_dw.weight"),
        (one_bias, "biases", "conv_head.bias"),
        (one_weight_scale, "weights", "classifier.weight"),
    ],
)
def test_a_fault_is_caught_by_name(
    route: Route, change: Callable[..., None], check: str, place: str
) -> None:
    body = to_json(certify(route.qnet, tampered(route, change), route.images[:8], route.logits[:8]))
    assert body["passed"] is False
    named = [row for row in body["failures"] if row["check"] == check]
    assert [row["tensor"] for row in named if "tensor" in row] == [place]
    assert all(row["next_step"] and row["expected"] != row["found"] for row in named)
    if check == "ranges" and change is not one_bit_of_a_scale:
        assert body["ranges"]["worst"]["tensor"] == place
        assert body["ranges"]["identical"] == body["ranges"]["tensors"] - 1


def test_untouched_file_written_again_passes(route: Route) -> None:
    """The faults above are found because of the change, not because of the writing."""
    again = tampered(route, lambda _tensors, _model: None)
    assert to_json(certify(route.qnet, again, route.images[:8], route.logits[:8]))["passed"] is True


def test_another_network_fails(route: Route) -> None:
    """Answers of another network: the codes agree, the answers do not."""
    body = to_json(certify(route.qnet, route.lite, route.images, route.logits[::-1].copy()))
    assert body["passed"] is False
    assert {row["check"] for row in body["failures"]} == {"end_to_end"}


def test_images_and_logits_must_belong_together(route: Route) -> None:
    with pytest.raises(DataError, match="200 images and 3 rows"):
        certify(route.qnet, route.lite, route.images, route.logits[:3])


# Broken files never reach the interpreter, which can crash on them.


@pytest.mark.parametrize(
    "share", [0.0, 0.00001, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999]
)
def test_truncated_file_is_refused(route: Route, share: float) -> None:
    data = bytes(route.lite.tflite)
    with pytest.raises(ModelFileError) as caught:
        lite.run(data[: int(len(data) * share)], route.images[:1])
    assert caught.value.next_step


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"TFL3",
        b"\0\0\0\0TFL3",
        b"\xff" * 64,
        b"PK\3\4" + b"\0" * 100,
        b"\x1c\0\0\0TFL3" + b"\xff" * 200,
    ],
)
def test_foreign_file_is_refused(data: bytes) -> None:
    with pytest.raises(ModelFileError):
        lite.describe(data)


def test_damaged_indices_are_refused(route: Route) -> None:
    """A flipped offset or index is found by the reader: either refused, or a file that is still
    whole.
    """
    data = bytearray(route.lite.tflite)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(20):
        broken = bytearray(data)
        place = int(rng.integers(8, 60_000))
        broken[place] ^= 0xFF
        try:
            flatbuffer.read(bytes(broken))
        except ModelFileError:
            refused += 1
    assert refused > 0


def test_wrong_images_are_refused(route: Route) -> None:
    with pytest.raises(DataError, match="takes uint8 images"):
        lite.run(route.lite.tflite, route.images[:, :32, :32])
    with pytest.raises(DataError, match="float32"):
        lite.run(route.lite.tflite, route.images.astype(np.float32))
