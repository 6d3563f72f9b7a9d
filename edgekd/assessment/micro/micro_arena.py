"""The tensor arena of TensorFlow Lite Micro: what one inference needs in RAM, in bytes.

The arena has two ends. At its head lie the tensors and the kernels' buffers, planned so that
tensors whose lives do not overlap share their place (GreedyMemoryPlanner: from large to small, each
in the first gap that fits, at multiples of 16 bytes). At its tail lie the structures that live as
long as the interpreter: tensors' entries, operators, their options, and per-channel multipliers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from edgekd.assessment.micro.kernel_scratch import KernelLibrary, scratch_buffers
from edgekd.assessment.micro.struct_sizes import (
    ALLOCATION_INFO,
    EVAL_TENSOR,
    FIXED_BYTES,
    NODE,
    OP_DATA,
    OPTIONS,
    PLANNED_BUFFER,
    QUANTIZATION,
    SCRATCH_HANDLE,
    TENSOR,
    UNKNOWN_OP_DATA,
    UNKNOWN_OPTIONS,
    ZERO_POINT,
    PointerBytes,
    aligned,
    alignment_of,
    size_of,
)
from edgekd.assessment.workload import bytes_of
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp
from edgekd.tflite.operators import operator_group

ALIGNMENT = 16  # MicroArenaBufferAlignment in micro/micro_arena_constants.h
# Operators with a multiplier and a shift for each output channel, and the axis of their filter.
CHANNEL_AXIS = {
    "CONV_2D": 0,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 0,
    "TRANSPOSE_CONV": 0,
}
operator_group(
    f"{__name__}.CHANNEL_AXIS", CHANNEL_AXIS, "its kernel keeps no array with a value per channel"
)


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A tensor or a kernel's buffer at the head. It exists from operator `first` to `last`."""

    bytes: int
    first: int
    last: int


@dataclasses.dataclass(frozen=True)
class MicroArena:
    """The parts of an arena, in bytes.

    `head`: tensors and kernels' buffers. `tail`: structures that stay. `temporary`: what planning
    itself needs at the head, before the tensors have their places. `scratch`: kernels' buffers, of
    the operator that asks for most. `busiest_op`: index of the operator at which most bytes of the
    head are alive, which are `busiest_bytes`.
    """

    head: int
    tail: int
    temporary: int
    scratch: int
    busiest_op: int
    busiest_bytes: int

    @property
    def bytes(self) -> int:
        """The smallest arena with which AllocateTensors succeeds."""
        return max(self.head, self.temporary) + self.tail


def micro_arena(
    graph: LiteGraph, library: KernelLibrary, pointer: PointerBytes = PointerBytes.DEVICE
) -> MicroArena:
    """The arena that a graph needs. `library`: the kernels that the firmware is built with."""
    scratch = {op.index: scratch_buffers(graph, op, library) for op in graph.ops}
    buffers = [*_tensors(graph), *_scratch(scratch)]
    alive = [
        sum(one.bytes for one in buffers if one.first <= place <= one.last)
        for place in range(1, len(graph.ops) + 1)
    ]
    busiest = max(range(len(alive)), key=lambda place: alive[place], default=0)
    count = sum(map(len, scratch.values()))
    temporary = (len(graph.tensors) + count) * size_of(ALLOCATION_INFO, pointer)
    temporary += len(buffers) * size_of(PLANNED_BUFFER, pointer)
    return MicroArena(
        head=greedy_peak(buffers),
        tail=_tail(graph, count, pointer),
        temporary=aligned(temporary, ALIGNMENT),
        scratch=max(map(sum, scratch.values()), default=0),
        busiest_op=busiest,
        busiest_bytes=alive[busiest] if alive else 0,
    )


def _tensors(graph: LiteGraph) -> Iterator[Buffer]:
    """The activations, in the order of their indices: AllocationInfoBuilder's lifetimes.

    Operator i has the time i + 1. An input of the graph exists from time 0 to its last reader, an
    output to the end.
    """
    first: dict[int, int] = dict.fromkeys(graph.inputs, 0)
    last = dict(first)
    for op in graph.ops:
        for index in op.outputs:
            first[index] = last[index] = op.index + 1
        for index in op.inputs:
            if index in first:
                last[index] = op.index + 1
    for index in graph.outputs:
        if index in first:
            last[index] = len(graph.ops)
    for index in sorted(first):
        tensor = graph.tensors[index]
        size = bytes_of(tensor)
        if tensor.data is None and size:
            yield Buffer(aligned(size, ALIGNMENT), first[index], last[index])


def _scratch(sizes: dict[int, list[int]]) -> Iterator[Buffer]:
    for index, wanted in sizes.items():
        yield from (Buffer(aligned(size, ALIGNMENT), index + 1, index + 1) for size in wanted)


def greedy_peak(buffers: list[Buffer]) -> int:
    """The end of the highest buffer, by GreedyMemoryPlanner::CalculateOffsetsIfNeeded.

    Among buffers of one size, the one that was added last is placed first.
    """
    placed: list[tuple[int, Buffer]] = []  # sorted by offset
    order = sorted(range(len(buffers)), key=lambda index: (-buffers[index].bytes, -index))
    for buffer in (buffers[index] for index in order):
        offset = 0
        for start, other in placed:
            if other.first > buffer.last or buffer.first > other.last:
                continue
            if start - offset >= buffer.bytes:
                break
            offset = max(offset, start + other.bytes)
        place = next((n for n, (start, _) in enumerate(placed) if start > offset), len(placed))
        placed.insert(place, (offset, buffer))
    return max((offset + buffer.bytes for offset, buffer in placed), default=0)


def _tail(graph: LiteGraph, scratch_count: int, pointer: PointerBytes) -> int:
    """The structures that stay, in the order in which the interpreter allocates them."""
    used = FIXED_BYTES

    def take(fields: str, count: int = 1, alignment: int | None = None) -> None:
        nonlocal used
        size = size_of(fields, pointer) * count
        if size:
            used = aligned(used + size, alignment or alignment_of(fields, pointer))

    take(EVAL_TENSOR, len(graph.tensors))
    take(NODE, len(graph.ops))
    for op in graph.ops:
        take(OPTIONS.get(op.name, UNKNOWN_OPTIONS))
    for op in graph.ops:
        for fields in OP_DATA.get(op.name, UNKNOWN_OP_DATA).split():
            take(fields, alignment=ALIGNMENT)
        for _ in range(2):  # multipliers and shifts
            take("i", _channels(graph, op), ALIGNMENT)
    take(SCRATCH_HANDLE, scratch_count)
    take("p", len(graph.inputs), ALIGNMENT)
    take("p", len(graph.outputs), ALIGNMENT)
    for index in (*graph.inputs, *graph.outputs):
        take(TENSOR)
        if graph.tensors[index].scale.size:
            take(QUANTIZATION)
            take(ZERO_POINT)
    return aligned(used, ALIGNMENT)


def _channels(graph: LiteGraph, op: LiteOp) -> int:
    """Output channels with a multiplier of their own; 0 for other operators."""
    axis = CHANNEL_AXIS.get(op.name)
    if axis is None:
        return 0
    weights = graph.tensors[op.inputs[1]]
    if op.name == "FULLY_CONNECTED" and weights.scale.size < 2:
        return 0  # one multiplier, in OpDataFullyConnected itself
    return int(weights.shape[axis])
