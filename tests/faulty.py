"""A small build for tests: the trained network, its files, the published folder, and its faults."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from edgekd.core.artifacts import Exported, LiteModel, QuantNetwork, sha256
from edgekd.core.records import to_json
from edgekd.export.onnx_export import export
from edgekd.export.tflite_convert import convert
from edgekd.proof.certificate import Gates, Published, certify
from edgekd.quantization.qat_network import predict
from edgekd.quantization.restoring import restore
from edgekd.tflite.canonical import canonical
from edgekd.tflite.flatbuffer import read, schema, write
from tests.small_networks import PX, artifact, calibrated, images

LABELS = ["cat", "dog", "hen"]
GATES = Gates(min_agreement=0.9)  # random weights: answers lie near each other


@dataclasses.dataclass(frozen=True)
class Built:
    """All parts of one build.

    `pixels`: uint8 [n, px, px, 3]. `logits`: the outputs of the trained network on them.
    """

    qnet: QuantNetwork
    exported: Exported
    lite: LiteModel
    pixels: np.ndarray
    logits: np.ndarray
    golden: dict[str, np.ndarray]

    @property
    def published(self) -> Published:
        return Published(self.exported.qdq, LABELS, npz(self.golden))

    def certificate(self, **instead: Any) -> dict[str, Any]:
        """certificate.json's body, with parts of the build replaced by others."""
        parts = {
            "qnet": self.qnet,
            "lite": self.lite,
            "images": self.pixels,
            "qat_logits": self.logits,
            "published": self.published,
        } | instead
        return to_json(certify(gates=GATES, **parts))

    def write(self, folder: Path) -> Path:
        """The folder as `edgekd build` publishes it, as far as `edgekd verify` reads it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.tflite").write_bytes(bytes(self.lite.tflite))
        (folder / "model.onnx").write_bytes(bytes(self.exported.qdq))
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in LABELS))
        (folder / "golden.npz").write_bytes(npz(self.golden))
        (folder / "certificate.json").write_text(json.dumps(self.certificate()))
        (folder / "report.json").write_text(
            json.dumps(
                {
                    "schema": "edgekd.report/1",
                    "data": {"classes": LABELS},
                    "artifact": {"sha256": sha256(self.lite.tflite)},
                }
            )
        )
        return folder


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def build(name: str = "Branches", seed: int = 1, **rules: str) -> Built:
    network, model, _ = calibrated(name, **rules)
    return follow(artifact(network), model, seed)


def follow(qnet: QuantNetwork, model: nn.Module, seed: int = 1) -> Built:
    """The files of a trained network, and its golden set drawn with `seed`."""
    exported = export(qnet, model)
    lite = convert(exported)
    pixels, labels = images(12, PX, seed=seed)
    from edgekd.tflite import runtime

    golden = {
        "inputs": pixels[:6],
        "logits_int8": runtime.run(lite.tflite, pixels[:6]),
        "labels": labels[:6],
        "logits": runtime.logits(lite.tflite, pixels[:6]),
        "mean": np.asarray(qnet.mean, np.float32),
        "std": np.asarray(qnet.std, np.float32),
    }
    return Built(qnet, exported, lite, pixels, predict(restore(qnet, model), pixels), golden)


Parts = tuple[Any, dict[str, Any], Callable[[Any], np.ndarray]]


def tampered(lite: LiteModel, change: Callable[[Any, dict[str, Any]], None]) -> LiteModel:
    """The file after `change(model, {tensor name: tensor})`; the rest stays in canonical form."""
    graph = read(lite.tflite)
    model = graph.model
    change(model, {tensor.name.decode(): tensor for tensor in model.subgraphs[0].tensors})
    return dataclasses.replace(lite, tflite=write(model))


def data(model: Any, tensor: Any, dtype: Any) -> np.ndarray:
    """A writable copy of a constant's values, for `put`."""
    return np.array(model.buffers[tensor.buffer].data, np.uint8).view(dtype).copy()


def put(model: Any, tensor: Any, values: np.ndarray) -> None:
    model.buffers[tensor.buffer].data = np.ascontiguousarray(values).view(np.uint8).reshape(-1)


def writer(model: Any, name: str) -> Any:
    """The operator that writes the tensor `name`."""
    graph = model.subgraphs[0]
    return next(op for op in graph.operators if graph.tensors[op.outputs[0]].name.decode() == name)


# Faults of the file. Each takes (model, tensors).


def scale_off_by_a_percent(_model: Any, tensors: dict[str, Any]) -> None:
    tensors["left.2"].quantization.scale = tensors["left.2"].quantization.scale * np.float32(1.01)


def zero_point_off_by_one(_model: Any, tensors: dict[str, Any]) -> None:
    tensors["head.pool"].quantization.zeroPoint = tensors["head.pool"].quantization.zeroPoint + 1


def one_weight_code(model: Any, tensors: dict[str, Any]) -> None:
    values = data(model, tensors["right.0.weight"], np.int8)
    values[77] ^= 1
    put(model, tensors["right.0.weight"], values)


def one_bias(model: Any, tensors: dict[str, Any]) -> None:
    values = data(model, tensors["head.fc.bias"], np.int32)
    values[1] += 1
    put(model, tensors["head.fc.bias"], values)


def one_weight_scale(_model: Any, tensors: dict[str, Any]) -> None:
    scale = np.array(tensors["stem.0.weight"].quantization.scale)
    scale[2] *= np.float32(1.01)
    tensors["stem.0.weight"].quantization.scale = scale


def two_channels_swapped(model: Any, tensors: dict[str, Any]) -> None:
    """Exchange outputs 2 and 5 of a layer: weights, scales and bias, so that the file
    fits itself.
    """
    for name, dtype in (("left.0.weight", np.int8), ("left.0.bias", np.int32)):
        values = data(model, tensors[name], dtype).reshape(8, -1)
        values[[2, 5]] = values[[5, 2]]
        put(model, tensors[name], values)
        scale = np.array(tensors[name].quantization.scale)
        scale[[2, 5]] = scale[[5, 2]]
        tensors[name].quantization.scale = scale


def red_and_blue_exchanged(model: Any, tensors: dict[str, Any]) -> None:
    """Make the first layer read BGR instead of RGB."""
    values = data(model, tensors["stem.0.weight"], np.int8).reshape(-1, 3)
    put(model, tensors["stem.0.weight"], values[:, ::-1])


def padding_on_the_other_side(model: Any, tensors: dict[str, Any]) -> None:
    """Put both pixels of padding after the map: TensorFlow's SAME instead of torch's border."""
    put(model, tensors["stem.2/pad_amounts"], np.array([[0, 0], [0, 2], [0, 2], [0, 0]], np.int32))


def same_for_valid(model: Any, _tensors: dict[str, Any]) -> None:
    writer(model, "left.2").builtinOptions.padding = 1


def stride(model: Any, _tensors: dict[str, Any]) -> None:
    writer(model, "right.2").builtinOptions.strideH = 2


def dropped_clamp(model: Any, _tensors: dict[str, Any]) -> None:
    writer(model, "stem.2").builtinOptions.fusedActivationFunction = 0


def inputs_exchanged(model: Any, _tensors: dict[str, Any]) -> None:
    op = writer(model, "cat")
    op.inputs = op.inputs[::-1].copy()


def another_source(model: Any, _tensors: dict[str, Any]) -> None:
    """Make the second branch read the first one's output: the same shapes, another network."""
    graph = model.subgraphs[0]
    names = [tensor.name.decode() for tensor in graph.tensors]
    op = writer(model, "right.2")
    op.inputs = np.array([names.index("relu"), *op.inputs[1:]], np.int32)


def old_op_version(model: Any, _tensors: dict[str, Any]) -> None:
    model.operatorCodes[writer(model, "relu").opcodeIndex].version = 1


def a_shared_buffer(_model: Any, tensors: dict[str, Any]) -> None:
    tensors["cat"].buffer = 0


def a_shape_signature(_model: Any, tensors: dict[str, Any]) -> None:
    tensors["input"].shapeSignature = np.array([1, PX, PX, 3], np.int32)


# fault -> (check of the certificate, what it must name)
FILE_FAULTS: dict[Callable[[Any, dict[str, Any]], None], tuple[str, str]] = {
    scale_off_by_a_percent: ("ranges", "left.2"),
    zero_point_off_by_one: ("ranges", "head.pool"),
    one_weight_code: ("weights", "right.0.weight"),
    one_bias: ("biases", "head.fc.bias"),
    one_weight_scale: ("weights", "stem.0.weight"),
    two_channels_swapped: ("weights", "left.0.weight"),
    red_and_blue_exchanged: ("weights", "stem.0.weight"),
    padding_on_the_other_side: ("edges", "CONV_2D #1 -> stem.2"),
    same_for_valid: ("shapes", "CONV_2D #2 -> left.2"),
    stride: ("shapes", "CONV_2D #4 -> right.2"),
    dropped_clamp: ("structure", "CONV_2D #1 -> stem.2"),
    inputs_exchanged: ("structure", "CONCATENATION #5 -> cat"),
    another_source: ("structure", "CONV_2D #4 -> right.2"),
    old_op_version: ("canonical", "ADD #3 -> relu"),
    a_shared_buffer: ("canonical", "cat"),
    a_shape_signature: ("canonical", "input"),
}

# Faults of ops and forms that Branches has not. Each takes (model, tensors) and gives the name of
# what must be named.


def first(model: Any, kind: str) -> tuple[Any, str]:
    """(the first operator of a kind, the name of its output)."""
    graph, code = model.subgraphs[0], getattr(schema().BuiltinOperator, kind)
    op = next(
        op for op in graph.operators if model.operatorCodes[op.opcodeIndex].builtinCode == code
    )
    return op, graph.tensors[op.outputs[0]].name.decode()


def another_kind_of_op(model: Any, _tensors: dict[str, Any]) -> str:
    """Put RELU6 in the place of hard-swish: the same shape and range."""
    op, name = first(model, "HARD_SWISH")
    code = model.operatorCodes[op.opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = schema().BuiltinOperator.RELU6
    code.version = 2
    return name


def a_gate_beyond_one(_model: Any, tensors: dict[str, Any]) -> str:
    """Widen the range whose end is the clamp of a hard-sigmoid."""
    tensors["gate"].quantization.scale = tensors["gate"].quantization.scale * np.float32(1.5)
    return "gate"


def a_later_slice(model: Any, _tensors: dict[str, Any]) -> str:
    op, name = first(model, "SLICE")
    put(model, model.subgraphs[0].tensors[op.inputs[1]], np.array([0, 0, 0, 1], np.int32))
    return name


def a_slice_outside_the_map(model: Any, _tensors: dict[str, Any]) -> str:
    op, name = first(model, "SLICE")
    put(model, model.subgraphs[0].tensors[op.inputs[1]], np.array([0, 0, 0, 9], np.int32))
    return name


def columns_in_torch_order(model: Any, tensors: dict[str, Any]) -> str:
    """Reorder a layer behind a flatten of 4 x 2 pixels and 6 channels, as if channels
    came first.
    """
    values = data(model, tensors["left.weight"], np.int8).reshape(3, 8, 6)
    put(model, tensors["left.weight"], values.transpose(0, 2, 1))
    return "left.weight"


def groups_exchanged(model: Any, tensors: dict[str, Any]) -> str:
    values = data(model, tensors["two.weight"], np.int8).reshape(2, -1)
    put(model, tensors["two.weight"], values[::-1])
    return "two.weight"


def a_group_too_many(model: Any, tensors: dict[str, Any]) -> str:
    """Give a weight of 3 input channels to a map of 8: the kernel would read past its groups."""
    values = data(model, tensors["two.weight"], np.int8).reshape(16, 3, 3, 4)[..., :3]
    put(model, tensors["two.weight"], values)
    tensors["two.weight"].shape = np.array(values.shape, np.int32)
    graph = model.subgraphs[0]
    place = graph.tensors.index(tensors["two.weight"])
    return next(
        graph.tensors[op.outputs[0]].name.decode() for op in graph.operators if place in op.inputs
    )


def a_port_off_by_one(_model: Any, tensors: dict[str, Any]) -> str:
    tensors["output"].quantization.zeroPoint = tensors["output"].quantization.zeroPoint - 1
    return "output"


# fault -> (network, its int8 rules, check of the certificate)
FORM_FAULTS: dict[Callable[[Any, dict[str, Any]], str], tuple[str, dict[str, str], str]] = {
    another_kind_of_op: ("HardExcite", {}, "structure"),
    a_gate_beyond_one: ("HardExcite", {}, "structure"),
    a_later_slice: ("Ghost", {}, "edges"),
    a_slice_outside_the_map: ("Ghost", {}, "shapes"),
    columns_in_torch_order: ("FlatMaps", {}, "weights"),
    groups_exchanged: ("Grouped", {}, "weights"),
    a_group_too_many: ("Grouped", {}, "shapes"),
    a_port_off_by_one: ("HardExcite", {"io_dtype": "uint8"}, "ranges"),
}

__all__ = [
    "FILE_FAULTS",
    "FORM_FAULTS",
    "LABELS",
    "Built",
    "build",
    "canonical",
    "follow",
    "npz",
    "tampered",
]
