"""Small networks along the int8 route: every operator with a rule, huge and dead channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.core.artifacts import LiteModel
from edgekd.core.records import to_json
from edgekd.proof.certificate import certify
from edgekd.proof.exact_kernels import KERNELS
from edgekd.proof.operands import Operand
from edgekd.quantization.qat_network import calibrate, prepare
from edgekd.tflite import flatbuffer, onnx_runner
from edgekd.tflite import runtime as lite
from edgekd.tflite.int8_rules import Int8Rules
from tests.routes import follow
from tests.small_networks import MEAN, SMALL, STD, artifact, calibrated, images, normalised

HALF = [0.5] * 3


@pytest.mark.parametrize(
    ("name", "rules", "ops"),
    [
        (
            "Branches",
            {},
            {
                "ADD": 1,
                "CONCATENATION": 1,
                "CONV_2D": 3,
                "FULLY_CONNECTED": 1,
                "MEAN": 1,
                "PAD": 1,
                "RESHAPE": 1,
            },
        ),
        (
            "Branches",
            {"pooling": "average_pool", "classifier": "per_tensor", "softmax": "append"},
            {
                "ADD": 1,
                "AVERAGE_POOL_2D": 1,
                "CONCATENATION": 1,
                "CONV_2D": 3,
                "FULLY_CONNECTED": 1,
                "PAD": 1,
                "RESHAPE": 1,
                "SOFTMAX": 1,
            },
        ),
        (
            "Pools",
            {},
            {
                "AVERAGE_POOL_2D": 1,
                "CONV_2D": 2,
                "FULLY_CONNECTED": 1,
                "MAX_POOL_2D": 1,
                "MEAN": 1,
                "PAD": 1,
                "RESHAPE": 1,
            },
        ),
        (
            "NegativePool",
            {},
            {
                "CONV_2D": 1,
                "DEPTHWISE_CONV_2D": 1,
                "FULLY_CONNECTED": 1,
                "MAX_POOL_2D": 1,
                "MEAN": 1,
                "PADV2": 1,
                "RESHAPE": 1,
            },
        ),
        (
            "Excite",
            {},
            {
                "CONV_2D": 3,
                "FULLY_CONNECTED": 1,
                "LOGISTIC": 1,
                "MEAN": 2,
                "MUL": 1,
                "PAD": 1,
                "RESHAPE": 1,
            },
        ),
        (
            "LoneActivation",
            {},
            {
                "ADD": 1,
                "CONV_2D": 2,
                "FULLY_CONNECTED": 1,
                "MEAN": 1,
                "PAD": 1,
                "RELU": 1,
                "RESHAPE": 1,
            },
        ),
        ("Flattened", {}, {"CONV_2D": 1, "FULLY_CONNECTED": 2, "PAD": 1, "RESHAPE": 1}),
        (
            "HardExcite",
            {},
            {
                "CONV_2D": 3,
                "FULLY_CONNECTED": 1,
                "HARD_SWISH": 1,
                "MEAN": 2,
                "MUL": 1,
                "PAD": 1,
                "RESHAPE": 1,
            },
        ),
        (
            "HardExcite",
            {"pooling": "average_pool", "io_dtype": "uint8", "softmax": "append"},
            {
                "AVERAGE_POOL_2D": 2,
                "CONV_2D": 3,
                "FULLY_CONNECTED": 1,
                "HARD_SWISH": 1,
                "MUL": 1,
                "PAD": 1,
                "QUANTIZE": 2,
                "RESHAPE": 1,
                "SOFTMAX": 1,
            },
        ),
        (
            "GateOfSum",
            {},
            {
                "ADD": 2,
                "CONV_2D": 2,
                "DEPTHWISE_CONV_2D": 2,
                "FULLY_CONNECTED": 1,
                "MEAN": 1,
                "PAD": 1,
                "RESHAPE": 1,
            },
        ),
        (
            "LoneNorms",
            {},
            {
                "ADD": 1,
                "CONCATENATION": 1,
                "CONV_2D": 2,
                "DEPTHWISE_CONV_2D": 2,
                "FULLY_CONNECTED": 1,
                "MEAN": 1,
                "PAD": 1,
                "RESHAPE": 1,
            },
        ),
        (
            "Ghost",
            {},
            {
                "CONCATENATION": 2,
                "CONV_2D": 2,
                "DEPTHWISE_CONV_2D": 1,
                "FULLY_CONNECTED": 1,
                "LOGISTIC": 1,
                "MEAN": 1,
                "MUL": 1,
                "PAD": 1,
                "RESHAPE": 1,
                "SLICE": 3,
            },
        ),
        ("Grouped", {}, {"CONV_2D": 3, "FULLY_CONNECTED": 1, "MEAN": 1, "PAD": 1, "RESHAPE": 1}),
        (
            "Borders",
            {},
            {
                "AVERAGE_POOL_2D": 4,
                "CONV_2D": 1,
                "FULLY_CONNECTED": 1,
                "MEAN": 1,
                "PAD": 2,
                "RESHAPE": 1,
            },
        ),
        (
            "ComputedWeights",
            {},
            {"ADD": 1, "CONV_2D": 3, "FULLY_CONNECTED": 1, "MEAN": 1, "PAD": 1, "RESHAPE": 1},
        ),
        (
            "FlatMaps",
            {},
            {
                "ADD": 1,
                "CONV_2D": 1,
                "FULLY_CONNECTED": 2,
                "HARD_SWISH": 1,
                "MAX_POOL_2D": 1,
                "RESHAPE": 1,
            },
        ),
    ],
)
def test_small_networks_certify(name: str, rules: dict[str, str], ops: dict[str, int]) -> None:
    """Every op with a rule, in networks whose channels are normalised differently."""
    network, _, _ = calibrated(name, **rules)
    pixels, labels = images(24, network.px, seed=2)
    found = follow(artifact(network), SMALL[name], pixels, labels)
    body = to_json(certify(found.qnet, found.lite, pixels, found.logits))
    assert {**body["op_local"], "worst_op": None}["max_lsb"] <= 1
    assert not [row for row in body["failures"] if row["check"] != "end_to_end"]
    assert (
        body["end_to_end"]["max_abs_lsb"] <= 6
    )  # untrained logits may tie, so argmax is no measure here
    assert lite.describe(found.lite.tflite)["ops"] == ops
    onnx = onnx_runner.logits(found.exported.qdq, pixels)
    assert np.abs(onnx - found.logits).max() <= 6.5 * found.qnet.ranges[-1]["scale"]
    assert worst_lsb(found.lite, pixels[:4], "reference") <= 1, (
        "certify looks at the built-in kernels"
    )


def worst_lsb(model: LiteModel, pixels: np.ndarray, kernels: str) -> int:
    """The largest distance of any op from the reference arithmetic on the runtime's own inputs."""
    runner = lite.LiteRunner(model.tflite, kernels=kernels, keep="everything")
    tensors, worst = runner.graph.tensors, 0
    for image in pixels:
        runner.invoke(lite.quantize_pixels(image[None], runner.input))
        for op in runner.graph.ops:
            inputs = [
                Operand(tensors[i], runner.value(i) if tensors[i].data is None else tensors[i].data)
                for i in op.inputs
            ]
            expected = KERNELS[op.name](op, inputs, tensors[op.outputs[0]])
            worst = max(
                worst, int(np.abs(runner.value(op.outputs[0]).astype(np.int64) - expected).max())
            )
    return worst


def test_same_padding_replaces_a_pad() -> None:
    """TensorFlow's asymmetric borders (tf_ networks) are one SAME convolution, not a PAD and a
    convolution.
    """
    torch.manual_seed(0)

    def build() -> nn.Module:
        return nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)),
            nn.Conv2d(3, 8, 3, 2),
            nn.ReLU6(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        )

    network = prepare(build(), 32, HALF, HALF, Int8Rules())
    pixels, labels = images(8, 32)
    calibrate(network, [normalised(pixels, HALF, HALF)])
    found = follow(artifact(network), build, pixels, labels)
    assert "PAD" not in found.lite.facts["ops"]
    assert not [
        row
        for row in to_json(certify(found.qnet, found.lite, pixels, found.logits))["failures"]
        if row["check"] != "end_to_end"
    ]


def test_huge_channels_do_not_stop_the_runtime() -> None:
    """A batch norm over a channel that hardly varies folds into huge weights; XNNPACK refuses
    multipliers of 2^8.
    """
    torch.manual_seed(0)
    build = SMALL["Branches"]
    model = build().eval()
    with torch.no_grad():
        model.left[1].weight[:2] *= 1e6
    network = prepare(model, 32, MEAN, STD)
    pixels, labels = images(16, 32)
    calibrate(network, [normalised(pixels, MEAN, STD)])
    found = follow(artifact(network), build, pixels, labels)
    body = to_json(certify(found.qnet, found.lite, pixels, found.logits))
    assert not [row for row in body["failures"] if row["check"] != "end_to_end"]


def test_dead_channels_do_not_saturate() -> None:
    """Channels with weights near zero and an ordinary bias: without a floor under the scale their
    int32 bias overflows.
    """
    torch.manual_seed(0)
    build = SMALL["Branches"]
    model = build().eval()
    with torch.no_grad():
        model.left[1].weight[:4] *= 1e-9
        model.left[1].bias[:4] = torch.tensor([3.0, -2.0, 0.5, 5.0])
        model.right[0].weight[0] = 0
    network = prepare(model, 32, MEAN, STD)
    pixels, labels = images(16, 32)
    calibrate(network, [normalised(pixels, MEAN, STD)])
    found = follow(artifact(network), build, pixels, labels)
    biases = flatbuffer.read(found.lite.tflite).by_name()["left.0.bias"].data
    assert biases is not None
    assert np.abs(biases.astype(np.int64)).max() <= 2**30 + 64
    body = to_json(certify(found.qnet, found.lite, pixels, found.logits))
    assert body["op_local"]["max_lsb"] <= 1
    assert not [row for row in body["failures"] if row["check"] != "end_to_end"]
