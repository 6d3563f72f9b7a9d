"""Edits of a network that let a device run it faster. Each is made on the graph, and priced there.

An edit is a function from a graph to the number of places that it changed and the edited graph.
The edited graph has the right shapes and operators, but not the right weights: it is for counting
and must never be run.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping

from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, LiteTensor, builtin_name
from edgekd.tflite.operators import operator_group

# Operators that may stand in a squeeze-and-excite branch, between the pooling and the MUL.
GATES = frozenset(
    {
        "LOGISTIC",
        "HARD_SWISH",
        "RELU",
        "RELU6",
        "RELU_0_TO_1",
        "CONV_2D",
        "FULLY_CONNECTED",
        "RESHAPE",
        "ADD",
        "MUL",
        "MEAN",
        "AVERAGE_POOL_2D",
        "QUANTIZE",
        "DEQUANTIZE",
        "MINIMUM",
        "MAXIMUM",
    }
)
operator_group(f"{__name__}.GATES", GATES, "it ends a squeeze-and-excite branch")
# The axes of the weights along which the width of a layer is cut: outputs, inputs, or both at once.
WIDTH_AXES: dict[str, tuple[int, ...]] = {
    "CONV_2D": (0, 3),
    "DEPTHWISE_CONV_2D": (3,),
    "FULLY_CONNECTED": (0, 1),
}
operator_group(f"{__name__}.WIDTH_AXES", WIDTH_AXES, "it has no weights of its own")
# The next smaller input that is proposed, before rounding to GRAIN: 96 -> 64 px, 224 -> 160 px.
SMALLER = 0.75
# Input sizes are multiples of the total stride of the MobileNets, so that no map is cut at an edge.
GRAIN = 32
ANOTHER_WIDTH = "choose a network with other widths (edgekd models)"


@dataclasses.dataclass(frozen=True)
class Edit:
    """An edit that changes something in a graph.

    `key`: its short name. `what`: the edit in words, with counts. `graph`: the graph after it.
    `sets`: the recipe's keys that make the edit, empty where no setting does.
    """

    key: str
    what: str
    graph: LiteGraph
    sets: Mapping[str, str | int]

    @property
    def how(self) -> str:
        """What to type."""
        return " ".join(f"--set {key}={value}" for key, value in self.sets.items()) or ANOTHER_WIDTH


def edits(graph: LiteGraph, channel_multiple: int) -> list[Edit]:
    """Every edit that changes something in this graph.

    `channel_multiple`: widths that waste no lanes of the device's kernels.
    """
    changes: list[tuple[str, str, tuple[int, LiteGraph], Mapping[str, str | int]]] = [
        (
            "hard_swish",
            "{} HARD_SWISH to RELU6, fused into the op before",
            drop_activation(graph, "HARD_SWISH"),
            {"edits.hard_swish": "relu6"},
        ),
        (
            "gelu",
            "{} GELU to RELU6, fused into the op before",
            drop_activation(graph, "GELU"),
            {"edits.gelu": "relu6"},
        ),
        (
            "squeeze_excite",
            "squeeze-and-excite off in {} blocks",
            drop_squeeze_excite(graph),
            {"edits.squeeze_excite": "remove"},
        ),
        (
            "pooling",
            "{} MEAN to AVERAGE_POOL_2D",
            pool_means(graph),
            {"edits.pooling": "average_pool"},
        ),
        (
            "width",
            f"{{}} widths down to a multiple of {channel_multiple}",
            round_widths(graph, channel_multiple),
            {},
        ),
    ]
    found = [
        Edit(key, what.format(count), edited, sets)
        for key, what, (count, edited), sets in changes
        if count
    ]
    side = input_side(graph)
    smaller = int(side * SMALLER) // GRAIN * GRAIN
    if GRAIN <= smaller < side:
        what = f"input of {smaller} instead of {side} px"
        edited = resize(graph, smaller / side)
        found.append(Edit("input", what, edited, {"data.input_px": smaller}))
    return found


def input_side(graph: LiteGraph) -> int:
    """Height of the image that the graph takes, 0 where it takes none."""
    shape = graph.tensors[graph.inputs[0]].shape if graph.inputs else ()
    return shape[1] if len(shape) == 4 else 0


def _rebuilt(
    graph: LiteGraph, ops: Iterable[LiteOp], tensors: list[LiteTensor] | None = None
) -> LiteGraph:
    return dataclasses.replace(
        graph,
        tensors=graph.tensors if tensors is None else tensors,
        ops=[dataclasses.replace(op, index=index) for index, op in enumerate(ops)],
    )


def _without(graph: LiteGraph, gone: set[int], instead: Mapping[int, int]) -> LiteGraph:
    """The graph without the operators in `gone`.

    `instead`: {tensor: the tensor that takes its place}, followed through chains.
    """

    def now(index: int) -> int:
        while index in instead:
            index = instead[index]
        return index

    kept = [
        dataclasses.replace(op, inputs=tuple(map(now, op.inputs)))
        for op in graph.ops
        if op.index not in gone
    ]
    return dataclasses.replace(_rebuilt(graph, kept), outputs=tuple(map(now, graph.outputs)))


def drop_activation(graph: LiteGraph, name: str) -> tuple[int, LiteGraph]:
    """Every activation of this name becomes the RELU6 that is fused into the operator before it."""
    found = [op for op in graph.ops if op.name == name and op.inputs]
    edited = _without(
        graph, {op.index for op in found}, {op.outputs[0]: op.inputs[0] for op in found}
    )
    # The edited file does not list the operator, which a loader may refuse, either.
    written = copy.copy(graph.written)
    written.operatorCodes = [
        code for code in graph.written.operatorCodes or [] if builtin_name(code) != name
    ]
    return len(found), dataclasses.replace(edited, written=written)


def drop_squeeze_excite(graph: LiteGraph) -> tuple[int, LiteGraph]:
    """Every x * gate(pool(x)) becomes x, and the operators of the gate are removed."""
    made_by = {output: op for op in graph.ops for output in op.outputs}
    gone: set[int] = set()
    instead: dict[int, int] = {}
    for op in graph.ops:
        if op.name != "MUL" or len(op.inputs) != 2:
            continue
        for source, gate in (op.inputs[:2], op.inputs[1::-1]):
            branch = _branch(graph, made_by, gate, source)
            if branch:
                gone |= {op.index, *branch}
                instead[op.outputs[0]] = source
                break
    return len(instead), _without(graph, gone, instead)


def _branch(graph: LiteGraph, made_by: Mapping[int, LiteOp], gate: int, source: int) -> set[int]:
    """The operators from the pooling of `source` to `gate`.

    Empty unless every path from `gate` upwards ends in `source` or in a constant.
    """
    shape, whole = graph.tensors[gate].shape, graph.tensors[source].shape
    if len(whole) != 4 or whole[1] * whole[2] == 1 or len(shape) != 4 or shape[1] * shape[2] != 1:
        return set()
    found: set[int] = set()
    waiting, pooled = [gate], False
    while waiting:
        index = waiting.pop()
        if index == source:
            pooled = True
            continue
        op = made_by.get(index)
        if op is None or op.name not in GATES:
            if op is None and graph.tensors[index].data is not None:
                continue
            return set()
        if op.index not in found:
            found.add(op.index)
            waiting += [i for i in op.inputs if i >= 0 and graph.tensors[i].data is None]
    return found if pooled else set()


def pool_means(graph: LiteGraph) -> tuple[int, LiteGraph]:
    """Every MEAN over height and width becomes an AVERAGE_POOL_2D of the whole map."""
    ops, count = [], 0
    for op in graph.ops:
        reduces = op.name == "MEAN" and len(op.inputs) > 1
        shape = graph.tensors[op.inputs[0]].shape if reduces else ()
        axes = graph.tensors[op.inputs[1]].data if reduces else None
        if (
            len(shape) == 4
            and axes is not None
            and sorted(int(axis) % 4 for axis in axes.reshape(-1)) == [1, 2]
        ):
            count += 1
            op = dataclasses.replace(
                op,
                name="AVERAGE_POOL_2D",
                version=2,
                inputs=op.inputs[:1],
                options={
                    "filterHeight": shape[1],
                    "filterWidth": shape[2],
                    "strideH": 1,
                    "strideW": 1,
                    "padding": 1,
                    "fusedActivationFunction": 0,
                },
            )
        ops.append(op)
    return count, _rebuilt(graph, ops)


def round_widths(graph: LiteGraph, multiple: int) -> tuple[int, LiteGraph]:
    """Every width that is no multiple of `multiple` is rounded down to one.

    The number of classes and the channels of the image stay.
    """
    fixed = {
        graph.tensors[index].shape[-1]
        for index in (*graph.inputs, *graph.outputs)
        if graph.tensors[index].shape
    }
    layers = [
        op
        for op in graph.ops
        if op.name in WIDTH_AXES and len(op.inputs) > 1 and graph.tensors[op.outputs[0]].shape
    ]
    widths = {graph.tensors[op.outputs[0]].shape[-1] for op in layers} - fixed
    smaller = {
        width: max(width // multiple, 1) * multiple
        for width in widths
        if width % multiple and width > multiple
    }
    axes = {op.inputs[1]: WIDTH_AXES[op.name] for op in layers}
    tensors = []
    for tensor in graph.tensors:
        touched = axes.get(
            tensor.index, (len(tensor.shape) - 1,) if tensor.data is None and tensor.shape else ()
        )
        shape = tuple(
            smaller.get(dim, dim) if axis in touched else dim
            for axis, dim in enumerate(tensor.shape)
        )
        tensors.append(dataclasses.replace(tensor, shape=shape))
    count = sum(graph.tensors[op.outputs[0]].shape[-1] in smaller for op in layers)
    return count, _rebuilt(graph, graph.ops, tensors)


def resize(graph: LiteGraph, factor: float) -> LiteGraph:
    """Every map's height and width times `factor`, rounded up; weights keep their size."""
    tensors = [
        dataclasses.replace(
            tensor,
            shape=(
                tensor.shape[0],
                _times(tensor.shape[1], factor),
                _times(tensor.shape[2], factor),
                tensor.shape[3],
            ),
        )
        if tensor.data is None and len(tensor.shape) == 4
        else tensor
        for tensor in graph.tensors
    ]
    return _rebuilt(graph, graph.ops, tensors)


def _times(side: int, factor: float) -> int:
    return max(1, -int(-side * factor // 1)) if side > 1 else side
