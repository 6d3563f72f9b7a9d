"""What a .tflite must hold: ranges, codes and fused activations.

`from_trained` reads them from the trained network, and rounds the float weights again. `from_onnx`
reads the published Q/DQ graph that `edgekd.export.onnx_writer` wrote, so that a build folder can be
checked without the trained network. The names are all that is shared with the converter.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from edgekd.core.artifacts import QuantNetwork
from edgekd.core.errors import ModelFileError
from edgekd.tflite.int8_rules import INT8_MAX, INT8_MIN, SATURATION, Range
from edgekd.tflite.operators import operator_group, operator_table

GIVEN_SUFFIX = "_int8"  # of the codes that an edge's QuantizeLinear writes
INNER_SUFFIX = "/int8"  # of the int8 tensor behind a uint8 input, or before a uint8 output
CONSTANT = "CONSTANT"  # the writer of an edge that is a constant operand
# Operators that the file may merge into a neighbour.
MAY_VANISH = frozenset({"PAD", "RESHAPE", "TRANSPOSE"})
operator_group(f"{__name__}.MAY_VANISH", MAY_VANISH, "it stays in the file")


def natural(rank: int) -> tuple[int, ...]:
    """The order of the axes of a tensor in the file, where nothing else is stated: NHWC for a map
    of NCHW.
    """
    return (0, 2, 3, 1) if rank == 4 else tuple(range(rank))


@dataclasses.dataclass(frozen=True)
class EdgeClaim:
    """One activation tensor of the trained graph.

    `op`: the operator that writes it, or "INPUT" for the image. `activation`: the fused activation
    by TFLite's name ("NONE", "RELU", "RELU_N1_TO_1", "RELU6"), or SATURATION for a clamp to [0, 1]
    that the file leaves to int8. `reads`: the edges that the operator reads. `activation` and
    `reads` are None where the source does not say.
    """

    range: Range
    op: str
    activation: str | None = None
    reads: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class LayerClaim:
    """One layer with weights: int8 codes `weight` and int32 codes `bias` in torch's layout.

    The scales are float32, [outputs] or [1].
    """

    name: str
    op: str
    weight: npt.NDArray[Any]
    scale: npt.NDArray[np.float32]
    bias: npt.NDArray[Any]
    bias_scale: npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class OperandClaim:
    """A constant operand (a position embedding, a slope): its edge, its range, and its int8 codes
    in torch's layout.
    """

    name: str
    range: Range
    codes: npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Claims:
    """Everything that the file must hold: {edge: EdgeClaim}, the layers in order, and the constant
    operands. `outputs`: the edges that it gives, in order; () where the source does not say.
    """

    edges: dict[str, EdgeClaim]
    layers: list[LayerClaim]
    operands: list[OperandClaim] = dataclasses.field(default_factory=list)
    outputs: tuple[str, ...] = ()


def from_trained(qnet: QuantNetwork) -> Claims:
    """The claims of a trained int8 network.

    The rounding is written out here, and not imported from `edgekd.tflite.int8_rules`, which the
    converter uses.
    """
    state = safetensors.numpy.load(bytes(qnet.state))
    edges, operands = {}, []
    for row in qnet.ranges:
        learned = Range(float(np.float32(row["scale"])), int(row["zero_point"]))
        if row["op"] == CONSTANT:
            held = state[f"{row['edge']}.constant"].astype(np.float64)
            codes = np.clip(np.rint(held / learned.scale) + learned.zero_point, INT8_MIN, INT8_MAX)
            operands.append(OperandClaim(row["edge"], learned, codes))
        else:
            edges[row["edge"]] = EdgeClaim(learned, row["op"])
    layers = []
    for layer in qnet.layers:
        name = layer["name"]
        scale = state[f"{name}.scale"].astype(np.float32)
        weight = state[f"{name}.weight"].astype(np.float32)
        step = np.float64(edges[layer["source"]].range.scale) * scale.astype(np.float64)
        codes = np.clip(np.rint(weight / scale.reshape([-1] + [1] * (weight.ndim - 1))), -127, 127)
        layers.append(
            LayerClaim(
                name,
                layer["op"],
                codes,
                scale,
                np.rint(state[f"{name}.bias"].astype(np.float64) / step),
                step.astype(np.float32),
            )
        )
    return Claims(edges, layers, operands)


# ONNX node -> TFLite's activation. A Clip depends on its bounds.
FUSED = {"Relu": "RELU"}
CLIPS = {(0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 1.0): SATURATION}
# ONNX node -> the TFLite operator that computes it. A Conv depends on its groups and a Clip on its
# bounds. AveragePool over the whole map stays a pool: the trained graph already has MEAN or
# AVERAGE_POOL_2D, as the device profile asks.
OPS = {
    "Gemm": "FULLY_CONNECTED",
    "Pad": "PAD",
    "Reshape": "RESHAPE",
    "Flatten": "RESHAPE",
    "Concat": "CONCATENATION",
    "GlobalAveragePool": "MEAN",
    "AveragePool": "AVERAGE_POOL_2D",
    "MaxPool": "MAX_POOL_2D",
    "Sigmoid": "LOGISTIC",
    "HardSwish": "HARD_SWISH",
    "Relu": "RELU",
    "Softmax": "SOFTMAX",
    "Slice": "SLICE",
    "Transpose": "TRANSPOSE",
    "MatMul": "BATCH_MATMUL",
    "ReduceMean": "MEAN",
    "LeakyRelu": "LEAKY_RELU",
    "LpNormalization": "L2_NORMALIZATION",
}
# A Resize depends on its mode, by this attribute.
RESIZES = {b"linear": "RESIZE_BILINEAR", b"nearest": "RESIZE_NEAREST_NEIGHBOR"}
# The kinds of ONNX nodes, sorted, that together compute one TFLite operator between two edges.
COMPOSITES = {
    ("ConvTranspose", "Transpose"): "TRANSPOSE_CONV",  # whose weight has its outputs first
    ("Gemm", "Reshape", "Reshape"): "FULLY_CONNECTED",  # a layer over tokens
    ("Add", "Erf", "Mul", "Mul", "Mul"): "GELU",
    ("Add", "Add", *("Mul",) * 6, "Tanh"): "GELU",
    ("Max", "Reciprocal", "Sqrt"): "RSQRT",
    ("Mul", "Softmax"): "SOFTMAX",  # with a beta
}
operator_table(
    f"{__name__}.OPS",
    [*OPS.values(), *RESIZES.values(), *COMPOSITES.values()],
    absent={
        "ADD": "ONNX calls it Add: the name in capitals is TFLite's",
        "ELU": "ONNX calls it Elu: the name in capitals is TFLite's",
        "PRELU": "ONNX calls it PRelu: the name in capitals is TFLite's",
        "STRIDED_SLICE": "an ONNX Slice with steps",
        "SUB": "ONNX calls it Sub: the name in capitals is TFLite's",
        "CONV_2D": "an ONNX Conv: its weight tells which convolution it is",
        "DEPTHWISE_CONV_2D": "an ONNX Conv: its weight tells which convolution it is",
        "MUL": "ONNX calls it Mul: the name in capitals is TFLite's",
        "PADV2": "part of a MaxPool, or an ONNX Pad with a number of its own",
        "QUANTIZE": "not in the ONNX graph: it stands at uint8 ports only",
        "RELU6": "an ONNX Clip: its bounds tell which activation it is",
    },
)


def from_onnx(data: bytes | memoryview) -> Claims:
    """The claims of a published model.onnx.

    Raises ModelFileError for a file that is not EdgeKD's Q/DQ form.
    """
    import onnx

    try:
        graph = onnx.load_model_from_string(bytes(data)).graph
        constants = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
        return _Reader(graph, constants).claims()
    except ModelFileError:
        raise
    # protobuf's DecodeError, onnx's own errors and missing names share no base
    except Exception as error:
        raise ModelFileError(
            f"model.onnx cannot be read: {type(error).__name__}: {error}",
            "fetch the file again, or build again",
        ) from error


class _Reader:
    """One pass over a Q/DQ graph."""

    def __init__(self, graph: Any, constants: dict[str, npt.NDArray[Any]]) -> None:
        self.graph, self.constants = graph, constants
        self.maker = {output: node for node in graph.node for output in node.output}

    def claims(self) -> Claims:
        edges: dict[str, EdgeClaim] = {}
        layers: list[LayerClaim] = []
        operands: list[OperandClaim] = []
        for node in self.graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] == self.graph.input[0].name:
                scale, zero = (self.constants[name] for name in node.input[1:3])
                # the image's zero point is kept for uint8 pixels; the file's code is pixel - 128
                shift = INT8_MIN if scale.ndim == 0 and zero.dtype == np.uint8 else 0
                edges["input"] = EdgeClaim(
                    Range(float(scale), int(zero) + shift), "INPUT", "NONE", ()
                )
            elif node.op_type == "QuantizeLinear":
                edges[node.output[0].removesuffix(GIVEN_SUFFIX)] = self._edge(node)
            elif self._is_operand(node):
                codes, scale, zero = (self.constants[name] for name in node.input[:3])
                operands.append(OperandClaim(node.output[0], Range(float(scale), int(zero)), codes))
            elif len(node.input) > 2 and self._weight(node.input[1]) is not None:
                layers.append(self._layer(node))
        if "input" not in edges or not layers:
            raise ModelFileError(
                "model.onnx is not an EdgeKD int8 network: it has no quantized input or no layer",
                "give the model.onnx that `edgekd build` wrote",
            )
        return Claims(edges, layers, operands, tuple(port.name for port in self.graph.output))

    def _is_operand(self, node: Any) -> bool:
        """Whether a node is a constant operand: int8 codes with one scale. A weight has several."""
        if node.op_type != "DequantizeLinear" or node.input[0] not in self.constants:
            return False
        codes, scale = (self.constants[name] for name in node.input[:2])
        return bool(codes.dtype == np.int8 and scale.ndim == 0)

    def _weight(self, name: str) -> Any:
        """The DequantizeLinear of a constant, or None."""
        node = self.maker.get(name)
        return (
            node
            if node is not None
            and node.op_type == "DequantizeLinear"
            and node.input[0] in self.constants
            else None
        )

    def _edge(self, node: Any) -> EdgeClaim:
        scale, zero = (self.constants[name] for name in node.input[1:3])
        made, activation = self.maker[node.input[0]], "NONE"
        kind = self._activation(made)
        if kind is not None and self._computed(made.input[0]):
            made, activation = self.maker[made.input[0]], kind  # fused into the operator before it
        nodes, reads = self._between(made)
        kinds = tuple(sorted(part.op_type for part in nodes))
        op = self._op(made) if len(nodes) == 1 else COMPOSITES.get(kinds, " + ".join(kinds))
        return EdgeClaim(Range(float(scale), int(zero)), op, activation, tuple(reads))

    def _computed(self, name: str) -> bool:
        """Whether a node writes this tensor that neither quantizes nor dequantizes."""
        node = self.maker.get(name)
        return node is not None and node.op_type not in ("DequantizeLinear", "QuantizeLinear")

    def _between(self, last: Any) -> tuple[list[Any], list[str]]:
        """The nodes between the edges before a node and the node itself; the edges that they read.

        Edges come in the order in which the nodes read them.
        """
        nodes, reads = [last], []
        for name in last.input:
            if self._computed(name):
                inner, found = self._between(self.maker[name])
                nodes += [node for node in inner if node not in nodes]
            else:
                found = [edge for edge in (self._edge_read(name),) if edge]
            repeats = len(nodes) == 1  # x * x reads x twice, a GELU once
            reads += [edge for edge in found if repeats or edge not in reads]
        return nodes, reads

    def _activation(self, node: Any) -> str | None:
        if node.op_type == "Clip":
            return CLIPS.get(
                (float(self.constants[node.input[1]]), float(self.constants[node.input[2]]))
            )
        return FUSED.get(node.op_type)

    def _edge_read(self, name: str) -> str | None:
        node = self.maker.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] in self.constants:
            return None
        return (
            "input"
            if node.input[0] == self.graph.input[0].name
            else str(node.input[0]).removesuffix(GIVEN_SUFFIX)
        )

    def _op(self, node: Any) -> str:
        if node.op_type == "Clip":
            return self._activation(node) or "CLIP"
        if node.op_type == "Resize":
            mode = next((item.s for item in node.attribute if item.name == "mode"), b"nearest")
            return RESIZES.get(mode, "RESIZE")
        if node.op_type == "Slice" and len(node.input) > 4:
            return "STRIDED_SLICE"
        if node.op_type == "Pad" and len(node.input) > 2:
            return "PADV2"
        if node.op_type != "Conv":
            return OPS.get(node.op_type, str(node.op_type).upper())
        groups = next((item.i for item in node.attribute if item.name == "group"), 1)
        per_group = self.constants[self._weight(node.input[1]).input[0]].shape[1]
        return "DEPTHWISE_CONV_2D" if groups > 1 and per_group == 1 else "CONV_2D"

    def _layer(self, node: Any) -> LayerClaim:
        weight, bias = self._weight(node.input[1]), self._weight(node.input[2])
        if bias is None:
            raise ModelFileError(
                f"model.onnx: the layer {node.output[0]!r} has no int32 bias",
                "give the model.onnx that `edgekd build` wrote",
            )
        codes, scale = (self.constants[name] for name in weight.input[:2])
        bias_codes, bias_scale = (self.constants[name] for name in bias.input[:2])
        return LayerClaim(
            weight.output[0].removesuffix(".weight"),
            self._op(node),
            codes,
            scale,
            bias_codes,
            bias_scale,
        )
