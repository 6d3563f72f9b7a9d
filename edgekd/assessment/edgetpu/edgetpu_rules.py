"""Which ops the Edge TPU compiler would map, in its own status strings: predicted, where the compiler is not at hand.

Rules: coral.ai, "TensorFlow models on the Edge TPU" (supported operations, model requirements) in its copies of 2019
and 2020, and the release notes of google-coral/edgetpu. Status strings: logs of edgetpu_compiler 2.0 to 16.0.
"""

from __future__ import annotations

import math

from edgekd.assessment.op_placement import OpPlacement, Refusal, place_each
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, LiteTensor
from edgekd.tflite.operators import operator_group, operator_table

MAPPED = "Mapped to Edge TPU"
ANOTHER_SUBGRAPH = "More than one subgraph is not supported"
LIMITATION = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
DATA_TYPE = "Operation is working on an unsupported data type"
VERSION = "Operation version not supported"
RANK = "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
NOT_CONSTANT = "Filter, bias, or other param is not constant at compile-time"
TWO_D_OUTPUT = "For example, a fully-connected or softmax layer with 2D output"
NOT_SUPPORTED = "Operation not supported"  # logs of 15.0 and 16.0 for LEAKY_RELU and GATHER
DYNAMIC = (
    "Attempting to use a delegate that only supports static-sized tensors with a graph that has dynamic-sized "
    "tensors."
)  # the compiler then stops: google-coral/edgetpu issues 829 and 831
STATUSES = (
    MAPPED,
    ANOTHER_SUBGRAPH,
    LIMITATION,
    DATA_TYPE,
    VERSION,
    RANK,
    NOT_CONSTANT,
    TWO_D_OUTPUT,
    NOT_SUPPORTED,
)

# op -> newest version that compiler 16.0 can know. Its build number dates it to July 2021, when TensorFlow 2.5 was out:
# the versions that runtime_version.cc gives to 2.5.0 or earlier. Beyond it is certain, below it is not promised.
NEWEST_VERSION: dict[str, int] = {
    "ADD": 3,
    "AVERAGE_POOL_2D": 3,
    "CONCATENATION": 3,
    "CONV_2D": 5,
    "DEPTHWISE_CONV_2D": 6,
    "EXPAND_DIMS": 1,
    "FULLY_CONNECTED": 9,
    "L2_NORMALIZATION": 2,
    "LOGISTIC": 3,
    "LSTM": 4,
    "MAXIMUM": 4,
    "MAX_POOL_2D": 3,
    "MEAN": 3,
    "MINIMUM": 4,
    "MUL": 4,
    "PACK": 3,
    "PAD": 3,
    "PRELU": 1,
    "QUANTIZE": 2,
    "REDUCE_MAX": 3,
    "REDUCE_MIN": 3,
    "RELU": 2,
    "RELU6": 3,
    "RELU_N1_TO_1": 1,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4,
    "RSQRT": 1,
    "SLICE": 5,
    "SOFTMAX": 3,
    "SPACE_TO_DEPTH": 2,
    "SPLIT": 4,
    "SQUARED_DIFFERENCE": 2,
    "SQUEEZE": 2,
    "STRIDED_SLICE": 5,
    "SUB": 5,
    "SUM": 2,
    "TANH": 3,
    "TRANSPOSE": 5,
    "TRANSPOSE_CONV": 3,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 3,
}
_NOT_SUPPORTED = "not in the compiler's list of supported operators: it runs on the CPU"
operator_table(
    f"{__name__}.NEWEST_VERSION",
    NEWEST_VERSION,
    absent={"HARD_SWISH": _NOT_SUPPORTED, "PADV2": _NOT_SUPPORTED},
)
# op -> how many inputs from the second on must be constants
PARAMETERS: dict[str, int] = {
    "CONV_2D": 2,
    "DEPTHWISE_CONV_2D": 2,
    "FULLY_CONNECTED": 2,
    "MEAN": 1,
    "SUM": 1,
    "REDUCE_MAX": 1,
    "REDUCE_MIN": 1,
    "PAD": 1,
    "PRELU": 1,
    "RESIZE_BILINEAR": 1,
    "RESIZE_NEAREST_NEIGHBOR": 1,
    "STRIDED_SLICE": 3,
    "SLICE": 2,
    "TRANSPOSE": 1,
}
operator_group(f"{__name__}.PARAMETERS", PARAMETERS, "none of its inputs must be a constant")
# The compiler takes these only without a fused activation.
UNFUSED = frozenset({"AVERAGE_POOL_2D", "CONCATENATION", "MAX_POOL_2D"})
operator_group(f"{__name__}.UNFUSED", UNFUSED, "it may have a fused activation")
INT8 = frozenset({"INT8", "UINT8"})
SOFTMAX_LIMIT = 16_000  # elements; supported-operations table
MEAN_CHANNEL_MULTIPLE = 4  # a reduction over channels needs a multiple of 4; 2020 table
# Elements beyond which RESHAPE "may not map": the table gives no figure. Ours: 65,536, well above any classifier head.
RESHAPE_LIMIT = 65_536
# Elements beyond which RESIZE_* "may be left on the CPU depending on size": no figure either. Ours: 1 Mi outputs.
RESIZE_LIMIT = 2**20


def map_graph(graph: LiteGraph, *, many_subgraphs: bool = False) -> list[OpPlacement]:
    """The verdict on each op, with the single partition: what follows an op that breaks it stays on the CPU.

    `many_subgraphs`: as with the compiler's undocumented -a, which lifts that. A graph with dynamic shapes maps
    nothing. Ops before the first mapped one (a QUANTIZE of a float input) do not end the partition.
    """
    if not graph.ops:
        return []
    if dynamic(graph):
        return [
            OpPlacement(op.index, op.name, False, DYNAMIC, "shape_signature holds -1")
            for op in graph.ops
        ]
    alone = place_each(graph, judge, MAPPED)
    if many_subgraphs:
        return alone
    made_by = {output: op.index for op in graph.ops for output in op.outputs}
    below: set[int] = set()  # ops that depend on a mapped op
    cut: dict[int, int] = {}  # ops that depend on one that left the partition -> the first of those
    result = []
    for op, verdict in zip(graph.ops, alone, strict=True):
        producers = {made_by[index] for index in op.inputs if index in made_by}
        root = min((cut[index] for index in producers if index in cut), default=None)
        if root is not None and verdict.mapped:
            verdict = OpPlacement(
                op.index,
                op.name,
                False,
                ANOTHER_SUBGRAPH,
                f"it comes after {graph.ops[root].name} #{root}",
            )
        if root is not None:
            cut[op.index] = root
        elif not verdict.mapped and producers & below:
            cut[op.index] = op.index
        if verdict.mapped or producers & below:
            below.add(op.index)
        result.append(verdict)
    return result


def dynamic(graph: LiteGraph) -> bool:
    """Whether any tensor has a dimension that is only known at run time."""
    tensors = graph.model.subgraphs[0].tensors
    return any(
        tensor.shapeSignature is not None and any(int(dim) < 0 for dim in tensor.shapeSignature)
        for tensor in tensors
    )


def judge(graph: LiteGraph, op: LiteOp) -> Refusal | None:
    """(status, why) when the compiler would refuse this op by itself, None when it would map it."""
    if op.name not in NEWEST_VERSION:
        return NOT_SUPPORTED, f"{op.name} is not among the compiler's supported operations"
    if op.version > NEWEST_VERSION[op.name]:
        return (
            VERSION,
            f"version {op.version}, and the compiler knows up to {NEWEST_VERSION[op.name]}",
        )
    inputs = [graph.tensors[index] for index in op.inputs if index >= 0]
    outputs = [graph.tensors[index] for index in op.outputs]
    if op.name == "QUANTIZE" and any(tensor.dtype not in INT8 for tensor in inputs):
        return (
            LIMITATION,
            f"its input is {inputs[0].dtype.lower()}",
        )  # real logs of 15.0 and 16.0, float inputs
    edges = [tensor for tensor in (*inputs, *outputs) if tensor.data is None]
    odd = next((tensor for tensor in edges if tensor.dtype not in INT8), None)
    if odd is not None:
        return DATA_TYPE, f"{odd.name or 'a tensor'} is {odd.dtype.lower()}"
    missing = [
        graph.tensors[i]
        for i in op.inputs[1 : 1 + PARAMETERS.get(op.name, 0)]
        if i >= 0 and graph.tensors[i].data is None
    ]
    if missing:
        return NOT_CONSTANT, f"{missing[0].name or 'a parameter'} is computed at run time"
    deep = next((tensor for tensor in edges if _too_deep(tensor)), None)
    if deep is not None:
        return RANK, f"{deep.name or 'a tensor'} is {list(deep.shape)}"
    return _special(op, inputs, outputs)


def _too_deep(tensor: LiteTensor) -> bool:
    """More than one element outside the three innermost dimensions."""
    return math.prod(tensor.shape[:-3]) > 1


def _special(op: LiteOp, inputs: list[LiteTensor], outputs: list[LiteTensor]) -> Refusal | None:
    """The rules of single ops."""
    options, output, source = op.options, outputs[0].shape, inputs[0].shape
    if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D") and options.get(
        "dilationWFactor", 1
    ) != options.get("dilationHFactor", 1):
        return LIMITATION, "dilation differs between width and height"
    if op.name in UNFUSED and options.get("fusedActivationFunction", 0):
        return LIMITATION, "it has a fused activation"
    if op.name == "CONCATENATION":
        constants = [tensor for tensor in inputs if tensor.data is not None]
        if constants and (
            len(inputs) != 2
            or any(
                (tensor.data != _zero(tensor)).any()
                for tensor in constants
                if tensor.data is not None
            )
        ):
            return LIMITATION, "a constant input must be all zeros, and one of exactly two inputs"
    if op.name in ("FULLY_CONNECTED", "SOFTMAX") and math.prod(output[:-1]) > 1:
        return TWO_D_OUTPUT, f"its output is {list(output)}"
    if op.name == "FULLY_CONNECTED" and options.get("weightsFormat", 0):
        return LIMITATION, "only the default weights format is supported"
    if op.name == "SOFTMAX" and math.prod(output) > SOFTMAX_LIMIT:
        return LIMITATION, f"{math.prod(output)} elements, at most {SOFTMAX_LIMIT}"
    if op.name in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"):
        return _reduction(inputs)
    if (
        op.name == "PAD"
        and inputs[1].data is not None
        and len(source) == 4
        and inputs[1].data[0].any()
    ):
        return LIMITATION, "it pads the batch"
    if op.name == "PACK" and int(options.get("axis", 0)) % len(output) == 0:
        return LIMITATION, "it packs over the batch"
    if op.name == "RESHAPE" and math.prod(output) > RESHAPE_LIMIT:
        return LIMITATION, f"large tensors may not map, and this has {math.prod(output)} elements"
    if op.name.startswith("RESIZE_") and math.prod(output) > RESIZE_LIMIT:
        return (
            LIMITATION,
            f"large resizes may be left on the CPU, and this has {math.prod(output)} elements",
        )
    if op.name == "SQUEEZE" and _moves_ones(source, output):
        return (
            LIMITATION,
            f"only leading ones can be squeezed, not {list(source)} to {list(output)}",
        )
    if op.name == "STRIDED_SLICE":
        strided = inputs[3].data is not None and (inputs[3].data != 1).any()
        if strided or options.get("ellipsisMask", 0) or options.get("newAxisMask", 0):
            return LIMITATION, "all strides must be 1, with no ellipsis and no new axis"
    if op.name == "PRELU" and sum(dim > 1 for dim in inputs[1].shape[:-1]):
        return LIMITATION, "alpha must be one-dimensional (Keras: shared_axes=[1, 2])"
    return None


def _zero(tensor: LiteTensor) -> int:
    return int(tensor.zero_point[0]) if tensor.zero_point.size else 0


def _reduction(inputs: list[LiteTensor]) -> Refusal | None:
    shape, axes = inputs[0].shape, inputs[1].data
    rank = len(shape)
    over = {int(axis) % rank for axis in axes.reshape(-1)} if axes is not None else set[int]()
    if rank == 4 and 0 in over:
        return LIMITATION, "it reduces over the batch"
    if rank - 1 in over and shape[-1] % MEAN_CHANNEL_MULTIPLE:
        return (
            LIMITATION,
            f"it reduces {shape[-1]} channels, which must be a multiple of {MEAN_CHANNEL_MULTIPLE}",
        )
    return None


def _moves_ones(source: tuple[int, ...], output: tuple[int, ...]) -> bool:
    """Whether anything but leading ones was squeezed away: [1, 5, 10] -> [5, 10] is well, [5, 1, 10] -> [5, 10] is not."""
    dropped = len(source) - len(output)
    return source[dropped:] != output or any(dim != 1 for dim in source[:dropped])
