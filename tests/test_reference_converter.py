"""EdgeKD's file against TensorFlow's converter: the same small network in torch and in Keras, with
the same weights.

Needs the extra `reference` (tensorflow); skipped where it is absent. What differs and is meant to
differ is in `edgekd.tflite.canonical`'s docstring; beside that, TensorFlow drops the RESHAPE
between a pooled map and a FULLY_CONNECTED, which EdgeKD keeps as a part of the graph that the
device profile chose.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekd.export.onnx_export import export
from edgekd.export.tflite_convert import convert
from edgekd.quantization.qat_network import calibrate, prepare
from edgekd.tflite.canonical import canonical, deviations
from edgekd.tflite.flatbuffer import LiteGraph, LiteTensor, read
from edgekd.tflite.int8_rules import Int8Rules
from tests.conftest import SHARED
from tests.small_networks import artifact

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

NEUTRAL = (
    [128 / 255] * 3
)  # as mean and std: a pixel p means (p - 128) / 128, a power of two, and nothing is to be folded
PX = 8
PIXELS = np.random.default_rng(0).integers(0, 256, (16, PX, PX, 3), np.uint8)
REALS = (PIXELS.astype(np.float32) - 128) / 128


@pytest.fixture(scope="module")
def tf() -> Any:
    return pytest.importorskip(
        "tensorflow", reason="the extra `reference` (tensorflow) is not installed"
    )


class Network(nn.Module):
    """A network written as one function of an input and its layers."""

    def __init__(self, run: Callable[[nn.ModuleDict, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.run = nn.ModuleDict(layers), run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.layers, x)


def conv(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, pad: int = 0, **more: int
) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, pad, **more)


UINT8_PORTS = "uint8_ports"  # the one pair whose files have uint8 input and output
# name -> (in torch, in Keras); Keras takes its layers' weights from torch's, in the order in which
# they run
PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any, Any], Any]]] = {
    "conv": (
        lambda: Network(lambda m, x: functional.relu6(m.a(x)), a=conv(3, 8, 3, 1, 1)),
        lambda k, x: k.ReLU(6.0)(k.Conv2D(8, 3, padding="same")(x)),
    ),
    "conv_valid_strided": (
        lambda: Network(lambda m, x: m.a(x), a=conv(3, 5, 3, 2)),
        lambda k, x: k.Conv2D(5, 3, 2)(x),
    ),
    "conv_dilated": (
        lambda: Network(lambda m, x: torch.relu(m.a(x)), a=conv(3, 4, 3, 1, 2, dilation=2)),
        lambda k, x: k.ReLU()(k.Conv2D(4, 3, padding="same", dilation_rate=2)(x)),
    ),
    "conv_without_bias": (
        lambda: Network(lambda m, x: m.a(x), a=nn.Conv2d(3, 4, 3, bias=False)),
        lambda k, x: k.Conv2D(4, 3, use_bias=False)(x),
    ),
    "conv_of_one_channel": (
        lambda: Network(lambda m, x: m.b(m.a(x)), a=conv(3, 1), b=conv(1, 4, 3)),
        lambda k, x: k.Conv2D(4, 3)(k.Conv2D(1, 1)(x)),
    ),
    "depthwise": (
        lambda: Network(lambda m, x: functional.relu6(m.a(x)), a=conv(3, 3, 3, 1, 1, groups=3)),
        lambda k, x: k.ReLU(6.0)(k.DepthwiseConv2D(3, padding="same")(x)),
    ),
    "depthwise_multiplied_dilated": (
        lambda: Network(lambda m, x: m.a(x), a=conv(3, 6, 3, 1, 2, groups=3, dilation=2)),
        lambda k, x: k.DepthwiseConv2D(3, padding="same", depth_multiplier=2, dilation_rate=2)(x),
    ),
    "pad": (
        lambda: Network(
            lambda m, x: m.b(torch.relu(m.a(x))), a=conv(3, 4, 3, 2, 1), b=conv(4, 4, 3, 2, 1)
        ),
        lambda k, x: k.Conv2D(4, 3, 2)(
            k.ZeroPadding2D(1)(k.ReLU()(k.Conv2D(4, 3, 2)(k.ZeroPadding2D(1)(x))))
        ),
    ),
    "add": (
        lambda: Network(lambda m, x: torch.relu(m.a(x) + x), a=conv(3, 3)),
        lambda k, x: k.ReLU()(k.Add()([k.Conv2D(3, 1)(x), x])),
    ),
    "mul": (
        lambda: Network(lambda m, x: m.a(x) * x, a=conv(3, 3)),
        lambda k, x: k.Multiply()([k.Conv2D(3, 1)(x), x]),
    ),
    "mul_version_3": (  # factors that are never large together: a multiplier of at least 1
        lambda: Network(
            lambda m, x: torch.relu(m.a(x)) * torch.relu(m.b(x)), a=opposed(1.0), b=opposed(-1.0)
        ),
        lambda k, x: k.Multiply()([k.ReLU()(k.Conv2D(1, 1)(x)), k.ReLU()(k.Conv2D(1, 1)(x))]),
    ),
    "squeeze_excite": (
        lambda: Network(
            lambda m, x: x * torch.sigmoid(m.a(functional.adaptive_avg_pool2d(x, 1))), a=conv(3, 3)
        ),
        lambda k, x: k.Multiply()(
            [x, k.Activation("sigmoid")(k.Conv2D(3, 1)(k.GlobalAveragePooling2D(keepdims=True)(x)))]
        ),
    ),
    "two_means": (
        lambda: Network(
            lambda m, x: (
                functional.adaptive_avg_pool2d(m.a(x), 1) * functional.adaptive_avg_pool2d(x, 1)
            ),
            a=conv(3, 3),
        ),
        lambda k, x: k.Multiply()(
            [
                k.GlobalAveragePooling2D(keepdims=True)(k.Conv2D(3, 1)(x)),
                k.GlobalAveragePooling2D(keepdims=True)(x),
            ]
        ),
    ),
    "average_pool": (
        lambda: Network(lambda m, x: functional.avg_pool2d(m.a(x), 2), a=conv(3, 4)),
        lambda k, x: k.AveragePooling2D(2)(k.Conv2D(4, 1)(x)),
    ),
    "max_pool": (
        lambda: Network(lambda m, x: functional.max_pool2d(m.a(x), 2), a=conv(3, 4)),
        lambda k, x: k.MaxPooling2D(2)(k.Conv2D(4, 1)(x)),
    ),
    "concatenation": (
        lambda: Network(
            lambda m, x: torch.cat([torch.relu(m.a(x)), m.b(x)], 1), a=conv(3, 3), b=conv(3, 4)
        ),
        lambda k, x: k.Concatenate(axis=3)([k.ReLU()(k.Conv2D(3, 1)(x)), k.Conv2D(4, 1)(x)]),
    ),
    "hard_swish": (
        lambda: Network(lambda m, x: functional.hardswish(m.a(x)), a=conv(3, 4)),
        lambda k, x: k.Activation("hard_silu")(k.Conv2D(4, 1)(x)),
    ),
    # Groups of one channel are a DEPTHWISE_CONV_2D here, and a CONV_2D of as many groups there.
    "grouped": (
        lambda: Network(
            lambda m, x: torch.relu(m.b(m.a(x))), a=conv(3, 4), b=conv(4, 6, 3, groups=2)
        ),
        lambda k, x: k.ReLU()(k.Conv2D(6, 3, groups=2)(k.Conv2D(4, 1)(x))),
    ),
    UINT8_PORTS: (
        lambda: Network(lambda m, x: m.a(x), a=conv(3, 4)),
        lambda k, x: k.Conv2D(4, 1)(x),
    ),
    "fully_connected": (
        lambda: Network(
            lambda m, x: m.b(torch.relu(m.a(x.flatten(1)))), a=nn.Linear(192, 6), b=nn.Linear(6, 4)
        ),
        lambda k, x: k.Dense(4)(k.Dense(6, activation="relu")(k.Flatten()(x))),
    ),
    "softmax": (
        lambda: Network(lambda m, x: torch.softmax(m.a(x.flatten(1)), 1), a=nn.Linear(192, 6)),
        lambda k, x: k.Softmax()(k.Dense(6)(k.Flatten()(x))),
    ),
    "lone_relu": (
        lambda: Network(lambda m, x: (lambda y: torch.relu(y) + y)(m.a(x)), a=conv(3, 3)),
        lambda k, x: (lambda y: k.Add()([k.ReLU()(y), y]))(k.Conv2D(3, 1)(x)),
    ),
    "lone_relu6": (
        lambda: Network(lambda m, x: (lambda y: functional.relu6(y) + y)(m.a(x)), a=conv(3, 3)),
        lambda k, x: (lambda y: k.Add()([k.ReLU(6.0)(y), y]))(k.Conv2D(3, 1)(x)),
    ),
}


def opposed(sign: float) -> nn.Conv2d:
    """A 1 x 1 convolution that gives the first channel times `sign`."""
    layer = conv(3, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([sign, 0.0, 0.0]).reshape(1, 3, 1, 1))
        layer.bias.fill_(0.02 if sign > 0 else 0.03)  # TensorFlow lets equal biases share a buffer
    return layer


def ours(module: nn.Module, ports: str) -> bytes:
    network = prepare(module, PX, NEUTRAL, NEUTRAL, Int8Rules(io_dtype=ports))
    calibrate(network, [torch.from_numpy(REALS).permute(0, 3, 1, 2).contiguous()])
    return bytes(convert(export(artifact(network), module)).tflite)


def theirs(
    tf: Any, build: Callable[[Any, Any], Any], module: nn.Module | None = None, ports: str = "int8"
) -> bytes:
    """TensorFlow's full-integer file of a Keras function, with the weights of `module` where one is
    given.
    """
    source = tf.keras.Input((PX, PX, 3), batch_size=1)
    model = tf.keras.Model(source, build(tf.keras.layers, source))
    layers = [layer for layer in model.layers if layer.weights]
    torch_layers = (
        [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
        if module
        else []
    )
    for layer, part in zip(layers, torch_layers, strict=bool(module)):
        weight = part.weight.detach().numpy()
        if isinstance(part, nn.Linear):
            if (
                part.in_features == 3 * PX * PX
            ):  # behind a flatten of the image: torch counts its channels first
                weight = weight.reshape(-1, 3, PX, PX).transpose(0, 2, 3, 1).reshape(weight.shape)
            kernel = weight.T
        elif (
            part.groups > 1 and "depthwise" in layer.name
        ):  # [groups * multiplier, 1, h, w] -> [h, w, groups, multiplier]
            kernel = weight.reshape(part.groups, -1, *weight.shape[2:]).transpose(2, 3, 0, 1)
        else:
            kernel = weight.transpose(2, 3, 1, 0)
        layer.set_weights([kernel] if part.bias is None else [kernel, part.bias.detach().numpy()])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in REALS)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, ports)
    return converter.convert()


def ops(graph: LiteGraph) -> list[dict[str, Any]]:
    """What a file says of each op, beside the network's own numbers."""
    rows = []
    for op, written in zip(graph.ops, graph.model.subgraphs[0].operators, strict=True):
        code = graph.model.operatorCodes[written.opcodeIndex]
        rows.append(
            {
                "op": op.name,
                "version": op.version,
                "deprecated": int(code.deprecatedBuiltinCode),
                "builtin": int(code.builtinCode),
                "options": op.options,
                "table": int(written.builtinOptionsType),
            }
        )
    return rows


def form(graph: LiteGraph, tensor: LiteTensor) -> dict[str, Any]:
    """What a file says of a tensor, beside its name and numbers."""
    written = graph.model.subgraphs[0].tensors[tensor.index]
    buffer = graph.model.buffers[written.buffer]
    return {
        "shape": tensor.shape,
        "dtype": tensor.dtype,
        "scales": tensor.scale.size,
        "zero_points": tensor.zero_point.size,
        "quantized_dimension": tensor.axis,
        "buffer less index": written.buffer - tensor.index,
        "bytes": 0 if buffer.data is None else len(buffer.data),
        "signature": written.shapeSignature,
        "rank": written.hasRank,
        "variable": written.isVariable,
        "sparsity": written.sparsity,
        "min": written.quantization.min,
        "details": written.quantization.detailsType,
    }


@pytest.mark.parametrize("name", PAIRS)
def test_the_same_network_gives_the_same_file(tf: Any, name: str) -> None:
    """Op by op: versions, codes, options, quantisation fields, buffers, metadata; weights bit for
    bit.
    """
    torch.manual_seed(0)
    module = PAIRS[name][0]().eval()
    ports = "uint8" if name == UINT8_PORTS else "int8"
    mine, reference = (
        read(data) for data in (ours(module, ports), theirs(tf, PAIRS[name][1], module, ports))
    )
    assert ops(mine) == ops(reference)
    assert [code.version for code in mine.model.operatorCodes] == [
        code.version for code in reference.model.operatorCodes
    ]
    for one, other in zip(mine.ops, reference.ops, strict=True):
        for a, b in zip([*one.inputs, *one.outputs], [*other.inputs, *other.outputs], strict=True):
            left, right = mine.tensors[a], reference.tensors[b]
            assert form(mine, left) == form(reference, right), left.name
            if left.data is None:
                assert np.allclose(left.scale, right.scale, rtol=0.02), (
                    left.name
                )  # calibrated by either's own float kernels
                assert abs(left.zero_point - right.zero_point).max() <= 2, left.name
            elif left.dtype == "INT8":
                assert left.data.tobytes() == right.data.tobytes(), left.name
                assert left.scale.tobytes() == right.scale.tobytes(), left.name
            elif not left.scale.size:
                assert left.data.tolist() == right.data.tolist(), left.name
    for graph in (mine, reference):
        model = graph.model
        constants = [tensor.index for tensor in graph.tensors if tensor.data is not None]
        results = [index for op in graph.ops for index in op.outputs]
        assert [*graph.inputs, *constants, *results] == list(range(len(graph.tensors))), (
            "inputs, constants, results"
        )
        assert model.buffers[0].data is None
        assert [written.buffer for written in model.subgraphs[0].tensors] == list(
            range(1, len(graph.tensors) + 1)
        )
        assert model.version == 3
        assert model.metadata[0].name == b"min_runtime_version"
        assert [signature.signatureKey for signature in model.signatureDefs] == [b"serving_default"]
    assert len(mine.tensors) == len(reference.tensors)
    stated = [
        bytes(bytearray(graph.model.buffers[graph.model.metadata[0].buffer].data))
        for graph in (mine, reference)
    ]
    assert stated[0] == stated[1]
    assert {op.name for op in mine.ops if op.name == "MUL" and op.version == 3} == (
        {"MUL"} if "3" in name else set()
    )


# What EdgeKD writes in another way, or not at all: the pass must agree with TensorFlow there, too.
BEYOND: dict[str, Callable[[Any, Any], Any]] = {
    "groups_of_one": lambda k, x: k.Conv2D(6, 3, groups=3)(x),
    "hard_sigmoid": lambda k, x: k.Multiply()([x, k.Activation("hard_sigmoid")(k.Conv2D(3, 1)(x))]),
    "tanh": lambda k, x: k.Activation("tanh")(k.Conv2D(4, 1)(x)),
    "subtract": lambda k, x: k.Subtract()([k.Conv2D(3, 1)(x), x]),
    "maximum": lambda k, x: k.Maximum()([k.Conv2D(3, 1)(x), x]),
    "slice": lambda k, x: k.Concatenate(axis=3)([x[:, :, :, :2], x[:, :, :, 1:]]),
    "resize": lambda k, x: k.UpSampling2D(2, interpolation="bilinear")(x),
    "head": lambda k, x: k.Dense(4)(k.Flatten()(k.GlobalAveragePooling2D(keepdims=True)(x))),
}


@pytest.mark.parametrize("name", BEYOND)
def test_a_file_of_tensorflow_is_canonical_as_it_is(tf: Any, name: str) -> None:
    data = theirs(tf, BEYOND[name])
    assert deviations(data) == []


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant", "tf2_mobilenet_v2_1.0_224_ptq"])
def test_real_files_of_older_converters_are_canonical(name: str) -> None:
    path = SHARED / "data" / "tflite" / f"{name}.tflite"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    data = path.read_bytes()
    assert deviations(data) == []
    assert canonical(canonical(data)) == canonical(data)


@pytest.mark.parametrize("name", ["Branches", "Excite", "NegativePool", "HardExcite", "Ghost"])
def test_tensorflow_is_a_second_reference(tf: Any, name: str) -> None:
    """Its interpreter on the same inputs: every op within its tolerance, in each kernel family, and
    the same answers.
    """
    from tests.faulty import build

    body = build(name).certificate()
    assert body["failures"] == []
    found = body["reference"]
    assert found["runtime"] == f"tensorflow {tf.__version__}"
    assert found["op_local"]["families"].keys() == {"xnnpack", "builtin", "reference"}
    assert found["op_local"]["max_lsb"] <= 1
    assert found["op_local"]["ops"] == body["op_local"]["ops"]
    assert (
        found["same_codes"]["reference"] == 1.0
    )  # the reference kernels are the same source in both runtimes
