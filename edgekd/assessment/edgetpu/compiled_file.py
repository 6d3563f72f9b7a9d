"""Read a compiled _edgetpu.tflite without hardware: what runs on the accelerator and on the CPU."""

from __future__ import annotations

from edgekd.assessment.check_record import CompiledBlock
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp

CUSTOM_OP = "edgetpu-custom-op"  # libedgetpu, tflite/custom_op.h


def is_compiled(graph: LiteGraph) -> bool:
    """Whether the Edge TPU's custom operator is in a graph."""
    return any(map(is_edgetpu_op, graph.ops))


def read_back(graph: LiteGraph) -> CompiledBlock:
    """What runs where in a compiled file."""
    compiled = [op.index for op in graph.ops if is_edgetpu_op(op)]
    cpu = [op for op in graph.ops if not is_edgetpu_op(op)]
    last = max(compiled, default=-1)
    return CompiledBlock(
        edgetpu_ops=len(compiled),
        executable_bytes=sum(_executable_bytes(graph, index) for index in compiled),
        cpu_ops=[op.name for op in cpu],
        cpu_tail=[op.name for op in cpu if op.index > last],
    )


def cpu_outputs(graph: LiteGraph) -> frozenset[str]:
    """Names of the tensors that operators left to the CPU write."""
    cpu = [op for op in graph.ops if not is_edgetpu_op(op)]
    return frozenset(graph.tensors[index].name for op in cpu for index in op.outputs)


def is_edgetpu_op(op: LiteOp) -> bool:
    """Whether an operator is a program for the accelerator."""
    return op.custom == CUSTOM_OP


def _executable_bytes(graph: LiteGraph, index: int) -> int:
    """Size of a custom operator's options, which hold its program and its parameters."""
    options = graph.written.subgraphs[0].operators[index].customOptions
    return 0 if options is None else len(options)
