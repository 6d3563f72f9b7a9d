"""Checks of a .tflite that need no runtime: its form, its shapes, and every number in it against `edgekd.proof.expected_model`.

canonical   what the file says of itself is what TensorFlow's converter would say
shapes      the shape of every tensor is the one that its op's inputs and options give
ranges      scale (as float32, bit for bit) and zero point of every activation are the learned ones
structure   every op is the one, reads the edges and ends in the activation that the trained graph has there
weights     every int8 code is round(weight / scale) of the trained weight
biases      every int32 code is round(bias / (s_in * s_w))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Json
from edgekd.core.errors import ModelFileError
from edgekd.proof.expected_model import INNER_SUFFIX, MAY_VANISH, Claims, EdgeClaim
from edgekd.proof.failures import Failures
from edgekd.tflite.canonical import deviations
from edgekd.tflite.flatbuffer import (
    INTEGER_TYPES,
    LiteGraph,
    LiteOp,
    LiteTensor,
    is_port_conversion,
)
from edgekd.tflite.int8_rules import (
    FLOAT_OPS,
    INT8_MAX,
    INT8_MIN,
    SAME_SCALE_OPS,
    SATURATION,
    WEIGHTED_OPS,
    windows,
)
from edgekd.tflite.operators import operator_group, operator_table

ACTIVATIONS = {
    0: "NONE",
    1: "RELU",
    2: "RELU_N1_TO_1",
    3: "RELU6",
}  # schema.fbs, enum ActivationFunctionType
UNWANTED = frozenset(
    {*FLOAT_OPS, "TRANSPOSE"}
)  # a file in stored order needs no TRANSPOSE: columns are permuted instead
WINDOW_OPS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D"})
PADS = frozenset({"PAD", "PADV2"})
SAME_SHAPE_OPS = frozenset(
    {"RELU", "RELU6", "LOGISTIC", "HARD_SWISH", "TANH", "SOFTMAX", "QUANTIZE"}
)
operator_group(f"{__name__}.WINDOW_OPS", WINDOW_OPS, "it has no window: see SHAPED_OPS")
operator_group(f"{__name__}.SAME_SHAPE_OPS", SAME_SHAPE_OPS, "its shape changes: see SHAPED_OPS")
CODE_SHIFT = {"UINT8": -128}  # of a uint8 port: the same real numbers, codes 128 higher
MOVES = frozenset(
    {*PADS, "TRANSPOSE", "RESHAPE", "QUANTIZE"}
)  # ops that the converter may put between an edge and its reader


def check_form(data: bytes | memoryview, graph: LiteGraph, failures: Failures) -> dict[str, Json]:
    """Whether the file is full integer and in canonical form; each deviation under its op, tensor or metadata.

    A QUANTIZE is let through only where a uint8 input or output meets the int8 graph, a TRANSPOSE nowhere.
    """
    used = {index for op in graph.ops for index in (*op.inputs, *op.outputs) if index >= 0}
    for index in sorted(used | set(graph.inputs) | set(graph.outputs)):
        if graph.tensors[index].dtype not in INTEGER_TYPES:
            failures.add(
                "full_integer",
                "tensor",
                graph.tensors[index].name,
                "an integer type",
                graph.tensors[index].dtype,
            )
    for op in graph.ops:
        if op.name in UNWANTED and not is_port_conversion(op, graph):
            failures.add(
                "full_integer",
                "op",
                op.label(graph.tensors),
                "no op that only converts or reorders, but QUANTIZE at a uint8 input or output",
                op.name,
            )
    try:
        found = deviations(data)
    except ModelFileError as error:  # two tensors of one name: nothing else can be told apart
        failures.add(
            "canonical",
            "op",
            "graph",
            "tensors with names of their own",
            error.what,
            error.next_step,
        )
        return {"deviations": 1}
    for row in found:
        where = (
            "op" if row.where == "metadata" else row.where
        )  # certificate.json knows tensors and ops
        failures.add("canonical", where, row.name, row.expected, row.found)
    return {"deviations": len(found)}


def check_ports(dtype: str, graph: LiteGraph, failures: Failures) -> None:
    """Whether input and output have the type that the device profile asked for, "int8" or "uint8"."""
    for index in (*graph.inputs, *graph.outputs):
        if graph.tensors[index].dtype != dtype.upper():
            failures.add(
                "full_integer",
                "tensor",
                graph.tensors[index].name,
                dtype.upper(),
                graph.tensors[index].dtype,
            )


def check_shapes(graph: LiteGraph, failures: Failures) -> dict[str, Json]:
    """The shape of every op's output, worked out again from its inputs and options.

    A file that fails this is not run: TFLite's kernels trust shapes and may read outside a tensor.
    """
    checked = 0
    for op in graph.ops:
        target = graph.tensors[op.outputs[0]]
        try:
            expected = _shape(
                op, [graph.tensors[index] for index in op.inputs if index >= 0], target
            )
        except (ValueError, IndexError, KeyError, AttributeError, ArithmeticError) as error:
            failures.add(
                "shapes", "op", op.label(graph.tensors), "inputs that fit each other", str(error)
            )
            continue
        checked += expected is not None
        if expected is not None and expected != list(target.shape):
            failures.add("shapes", "op", op.label(graph.tensors), expected, list(target.shape))
    return {"ops": checked}


def _shape(op: LiteOp, inputs: list[LiteTensor], target: LiteTensor) -> list[int] | None:
    """What the op writes, or None for an op of which only the runtime knows."""
    source = inputs[0]
    rule = SHAPES.get(op.name)
    if rule is not None:
        return rule(op, inputs)
    if op.name in PADS:
        if inputs[1].data is None or inputs[1].data.shape != (len(source.shape), 2):
            raise ValueError("padding amounts that are not constant, or not one pair an axis")
        return [
            int(size + sum(pair))
            for size, pair in zip(source.shape, inputs[1].data.tolist(), strict=True)
        ]
    if op.name in WINDOW_OPS:
        return [source.shape[0], *_window_sizes(op, inputs), _window_channels(op, inputs)]
    if op.name in ("ADD", "MUL"):
        return list(np.broadcast_shapes(*(tensor.shape for tensor in inputs)))
    if op.name == "CONCATENATION":
        axis = int(op.options["axis"]) % len(source.shape)
        sides = {tensor.shape[:axis] + tensor.shape[axis + 1 :] for tensor in inputs}
        if len(sides) != 1:
            raise ValueError(f"parts of {[list(tensor.shape) for tensor in inputs]} on axis {axis}")
        return [
            *source.shape[:axis],
            sum(tensor.shape[axis] for tensor in inputs),
            *source.shape[axis + 1 :],
        ]
    if op.name == "FULLY_CONNECTED":
        rows, left = divmod(math.prod(source.shape), inputs[1].shape[1])
        if left:
            raise ValueError(f"{list(source.shape)} into rows of {inputs[1].shape[1]}")
        return [rows, inputs[1].shape[0]]
    if op.name == "RESHAPE" and math.prod(source.shape) != math.prod(target.shape):
        raise ValueError(f"{list(source.shape)} into {list(target.shape)}")
    return list(source.shape) if op.name in SAME_SHAPE_OPS else None


def _constant(tensor: LiteTensor, length: int | None) -> list[int]:
    if (
        tensor.data is None
        or tensor.dtype != "INT32"
        or (length is not None and tensor.data.size != length)
    ):
        raise ValueError(f"{tensor.name!r} is no constant of {length or 'some'} int32")
    return [int(value) for value in tensor.data.reshape(-1)]


def _slice_shape(_op: LiteOp, inputs: list[LiteTensor]) -> list[int]:
    source = inputs[0].shape
    begin, size = (_constant(tensor, len(source)) for tensor in inputs[1:3])
    if any(
        b < 0 or s < 1 or b + s > whole for b, s, whole in zip(begin, size, source, strict=True)
    ):
        raise ValueError(f"from {begin} on, {size} of {list(source)}")
    return size


def _mean_shape(op: LiteOp, inputs: list[LiteTensor]) -> list[int]:
    source = inputs[0].shape
    axes = {axis % len(source) for axis in _constant(inputs[1], None)}
    if op.options["keepDims"]:
        return [1 if axis in axes else size for axis, size in enumerate(source)]
    return [size for axis, size in enumerate(source) if axis not in axes]


def _transpose_shape(_op: LiteOp, inputs: list[LiteTensor]) -> list[int]:
    order = _constant(inputs[1], len(inputs[0].shape))
    if sorted(order) != list(range(len(order))):
        raise ValueError(f"axes in the order {order}")
    return [inputs[0].shape[axis] for axis in order]


SHAPES: dict[str, Callable[[LiteOp, list[LiteTensor]], list[int]]] = {
    "SLICE": _slice_shape,
    "MEAN": _mean_shape,
    "TRANSPOSE": _transpose_shape,
}
# The operators whose output shape `_shape` works out. The shape of any other is not checked.
SHAPED_OPS = frozenset(
    {
        *SHAPES,
        *WINDOW_OPS,
        *PADS,
        *SAME_SHAPE_OPS,
        *("ADD", "CONCATENATION", "FULLY_CONNECTED", "MUL", "RESHAPE"),
    }
)
operator_table(f"{__name__}.SHAPED_OPS", SHAPED_OPS)


def _window_channels(op: LiteOp, inputs: list[LiteTensor]) -> int:
    """Channels that a pool or a convolution gives; a grouped CONV_2D counts its groups from the weight's input channels."""
    channels = inputs[0].shape[3]
    if op.name not in WEIGHTED_OPS:
        return channels
    weight = inputs[1].shape
    outputs = weight[WEIGHTED_OPS[op.name]]
    whole = (
        outputs % channels == 0
        if op.name == "DEPTHWISE_CONV_2D"
        else (channels % weight[3] == 0 and outputs % (channels // weight[3]) == 0)
    )
    if not whole or (len(inputs) > 2 and inputs[2].shape != (outputs,)):
        raise ValueError(
            f"{channels} channels with a weight of {list(weight)} and a bias of "
            f"{list(inputs[2].shape) if len(inputs) > 2 else None}"
        )
    return outputs


def _window_sizes(op: LiteOp, inputs: list[LiteTensor]) -> list[int]:
    kernel = (
        (op.options["filterHeight"], op.options["filterWidth"])
        if "filterHeight" in op.options
        else inputs[1].shape[1:3]
    )
    return [
        windows(
            inputs[0].shape[1 + axis],
            int(kernel[axis]),
            int(op.options[f"stride{side}"]),
            int(op.options.get(f"dilation{side}Factor", 1)),
            int(op.options["padding"]),
        )[0]
        for axis, side in enumerate("HW")
    ]


def edges_of(graph: LiteGraph, claims: Claims, correspondence: Mapping[str, str]) -> dict[int, str]:
    """{tensor index: edge whose range it holds}: by name, by the converter's word, else its source's if it only moves codes."""
    found: dict[int, str] = {}
    for index in graph.inputs:
        found[index] = correspondence.get(graph.tensors[index].name, graph.tensors[index].name)
    for op in graph.ops:
        for index in op.outputs:
            name = graph.tensors[index].name
            edge = next(
                (edge for edge in (name, name.removesuffix(INNER_SUFFIX)) if edge in claims.edges),
                correspondence.get(name),
            )
            if edge is None and op.name in MOVES:
                edge = found.get(op.inputs[0])
            if edge is not None:
                found[index] = edge
    return found


def check_ranges(
    claims: Claims, correspondence: Mapping[str, str], graph: LiteGraph, failures: Failures
) -> dict[str, Json]:
    """Every activation tensor of the file against the learned range of its edge, and every edge present."""
    edge_of = edges_of(graph, claims, correspondence)
    worst: dict[str, Json] = {"tensor": None, "scale_ratio": 1.0, "zero_point_delta": 0}
    written = set(graph.inputs) | {index for op in graph.ops for index in op.outputs}
    identical = 0
    for index in sorted(written):
        tensor = graph.tensors[index]
        claim = claims.edges.get(edge_of.get(index, ""))
        if claim is None or tensor.scale.size != 1:
            failures.add("ranges", "tensor", tensor.name, "a learned range", "none")
            continue
        learned = claim.range
        ratio = float(tensor.scale[0]) / learned.scale
        delta = int(tensor.zero_point[0]) + CODE_SHIFT.get(tensor.dtype, 0) - learned.zero_point
        if tensor.scale[0].tobytes() == np.float32(learned.scale).tobytes() and delta == 0:
            identical += 1
            continue
        failures.add(
            "ranges",
            "tensor",
            tensor.name,
            {"scale": learned.scale, "zero_point": learned.zero_point},
            {"scale": float(tensor.scale[0]), "zero_point": int(tensor.zero_point[0])},
        )
        if abs(np.log(max(ratio, 1e-30))) + abs(delta) > abs(
            np.log(max(worst["scale_ratio"], 1e-30))
        ) + abs(worst["zero_point_delta"]):
            worst = {"tensor": tensor.name, "scale_ratio": ratio, "zero_point_delta": delta}
    for op in graph.ops:
        if op.name in SAME_SCALE_OPS:
            _check_same_range(op, graph, failures)
    carried = set(edge_of.values())
    for name, claim in claims.edges.items():
        if name not in carried and claim.op not in MAY_VANISH:
            failures.add("ranges", "tensor", name, "a tensor in the file", "none")
    return {"tensors": len(written), "identical": identical, "worst": worst}


def _check_same_range(op: LiteOp, graph: LiteGraph, failures: Failures) -> None:
    output = graph.tensors[op.outputs[0]]
    for index in op.inputs:
        source = graph.tensors[index]
        if source.data is None and (
            source.scale.tobytes() != output.scale.tobytes()
            or source.zero_point.tolist() != output.zero_point.tolist()
        ):
            failures.add(
                "ranges",
                "op",
                op.label(graph.tensors),
                "one range for inputs and output",
                {source.name: source.scale.tolist(), output.name: output.scale.tolist()},
            )


def check_structure(
    claims: Claims, correspondence: Mapping[str, str], graph: LiteGraph, failures: Failures
) -> dict[str, Json]:
    """Kind, fused activation and inputs of every op that writes an edge of the trained graph. The range alone does not show
    a dropped clamp: codes saturate at the ends of a range that was observed after it. A clamp to [0, 1] has no activation
    in the file, so there the range itself must lie in [0, 1].
    """
    edge_of = edges_of(graph, claims, correspondence)
    carried = set(edge_of.values())
    checked = 0
    for op in graph.ops:
        target, label = graph.tensors[op.outputs[0]], op.label(graph.tensors)
        claim = claims.edges.get(target.name.removesuffix(INNER_SUFFIX))
        if (
            claim is None
            or claim.activation is None
            or claim.reads is None
            or is_port_conversion(op, graph)
        ):
            continue
        checked += 1
        if op.name != claim.op:
            failures.add("structure", "op", label, {"op": claim.op}, {"op": op.name})
            continue
        fused = ACTIVATIONS.get(int(op.options.get("fusedActivationFunction", 0)))
        if fused != ("NONE" if claim.activation == SATURATION else claim.activation):
            failures.add(
                "structure", "op", label, {"activation": claim.activation}, {"activation": fused}
            )
        if claim.activation == SATURATION and not _holds_unit(target):
            failures.add(
                "structure",
                "op",
                label,
                {"activation": SATURATION, "range": "0..1"},
                {"scale": target.scale.tolist(), "zero_point": target.zero_point.tolist()},
            )
        found = [
            edge_of.get(index)
            for index in op.inputs
            if index >= 0 and graph.tensors[index].data is None
        ]
        expected = [_carried(edge, claims.edges, carried) for edge in claim.reads]
        if found != expected:
            failures.add("structure", "op", label, {"reads": expected}, {"reads": found})
    return {"ops": checked}


def _holds_unit(tensor: LiteTensor) -> bool:
    """Whether a range starts at zero and ends at one or, by less than a step, above: then saturation clamps to [0, 1]."""
    if tensor.scale.size != 1 or tensor.zero_point.tolist() != [INT8_MIN]:
        return False
    return float(tensor.scale[0]) * (INT8_MAX - INT8_MIN) <= 1.0 + float(tensor.scale[0])


def _carried(edge: str, edges: Mapping[str, EdgeClaim], carried: set[str]) -> str:
    """The edge itself, or the one before it where the file merged it into a neighbour."""
    while (
        edge not in carried and edge in edges and edges[edge].op in MAY_VANISH and edges[edge].reads
    ):
        edge = (edges[edge].reads or ("",))[0]
    return edge


def check_layers(claims: Claims, graph: LiteGraph, failures: Failures) -> dict[str, Json]:
    """Weights and biases of every layer: codes one for one, scales bit for bit."""
    tensors = graph.by_name()
    counts = {
        part: {"tensors": 0, "identical_codes": 0, "total_codes": 0}
        for part in ("weights", "biases")
    }
    for layer in claims.layers:
        for part, name, codes, scale in (
            (
                "weights",
                f"{layer.name}.weight",
                _to_lite_layout(layer.weight, layer.op),
                layer.scale,
            ),
            ("biases", f"{layer.name}.bias", layer.bias, layer.bias_scale),
        ):
            _compare_codes(part, name, tensors.get(name), codes, scale, counts[part], failures)
    known = {f"{layer.name}.weight" for layer in claims.layers}
    for op in graph.ops:
        if op.name in WEIGHTED_OPS and graph.tensors[op.inputs[1]].name not in known:
            failures.add(
                "weights",
                "op",
                op.label(graph.tensors),
                "a trained layer",
                graph.tensors[op.inputs[1]].name,
            )
    return dict(counts)


def _to_lite_layout(codes: npt.NDArray[Any], op: str) -> npt.NDArray[Any]:
    """From torch's OIHW (or O1HW of a depthwise layer) to TFLite's OHWI (or 1HWO)."""
    if op == "CONV_2D":
        return codes.transpose(0, 2, 3, 1)
    return codes.transpose(1, 2, 3, 0) if op == "DEPTHWISE_CONV_2D" else codes


def _compare_codes(
    part: str,
    name: str,
    tensor: LiteTensor | None,
    codes: npt.NDArray[Any],
    scale: npt.NDArray[np.float32],
    counts: dict[str, int],
    failures: Failures,
) -> None:
    counts["tensors"] += 1
    counts["total_codes"] += codes.size
    dtype = "INT8" if part == "weights" else "INT32"
    if (
        tensor is None
        or tensor.data is None
        or tensor.data.shape != codes.shape
        or tensor.dtype != dtype
    ):
        found = "none" if tensor is None else {"shape": list(tensor.shape), "dtype": tensor.dtype}
        failures.add(part, "tensor", name, {"shape": list(codes.shape), "dtype": dtype}, found)
        return
    same = tensor.data == codes
    counts["identical_codes"] += int(same.sum())
    if not same.all():
        first = tuple(int(i) for i in np.argwhere(~same)[0])
        failures.add(
            part,
            "tensor",
            name,
            {"code": int(codes[first]), "at": list(first)},
            {"code": int(tensor.data[first]), "differing": int((~same).sum())},
        )
    if not _same_scales(tensor.scale, scale) or tensor.zero_point.any():
        odd = int(np.argmax(tensor.scale != scale)) if tensor.scale.shape == scale.shape else -1
        failures.add(
            part,
            "tensor",
            name,
            {"scale": float(scale[odd]), "channel": odd, "scales": len(scale)},
            {
                "scale": float(tensor.scale[odd]) if tensor.scale.size else None,
                "scales": int(tensor.scale.size),
                "zero_points": "not all 0" if tensor.zero_point.any() else "0",
            },
        )


def _same_scales(found: npt.NDArray[np.float32], claimed: npt.NDArray[np.float32]) -> bool:
    """Bit for bit; one scale for the tensor equals the same scale written for every channel (ONNX writes it so)."""
    if found.size == 1 and len(set(claimed.tolist())) == 1:
        claimed = claimed[:1]
    return found.tobytes() == claimed.tobytes()
