"""A compiled _edgetpu.tflite, read back without hardware: what became the custom op, and what was left to the CPU."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgekd.tflite.flatbuffer import LiteGraph

CUSTOM_OP = "edgetpu-custom-op"  # libedgetpu, tflite/custom_op.h


@dataclasses.dataclass(frozen=True)
class CompiledFile:
    """`executables`: bytes of each custom op's options (program and parameters). `cpu`: the ops beside them, by order.

    `tail`: those of `cpu` that come after the last custom op.
    """

    executables: tuple[int, ...]
    cpu: tuple[str, ...]
    tail: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "edgetpu_ops": len(self.executables),
            "executable_bytes": sum(self.executables),
            "cpu_ops": list(self.cpu),
            "cpu_tail": list(self.tail),
        }


def is_compiled(graph: LiteGraph) -> bool:
    """Whether the Edge TPU's custom op is in a graph."""
    return any(_custom(graph, index) for index in range(len(graph.ops)))


def read_back(graph: LiteGraph) -> CompiledFile:
    """What runs where in a compiled file."""
    compiled = [index for index in range(len(graph.ops)) if _custom(graph, index)]
    cpu = [op for op in graph.ops if op.index not in compiled]
    last = max(compiled, default=-1)
    return CompiledFile(
        tuple(_options(graph, index) for index in compiled),
        tuple(op.name for op in cpu),
        tuple(op.name for op in cpu if op.index > last),
    )


def _custom(graph: LiteGraph, index: int) -> bool:
    code = graph.model.operatorCodes[graph.model.subgraphs[0].operators[index].opcodeIndex]
    name = code.customCode
    return (name.decode(errors="replace") if isinstance(name, bytes) else name) == CUSTOM_OP


def _options(graph: LiteGraph, index: int) -> int:
    options = graph.model.subgraphs[0].operators[index].customOptions
    return 0 if options is None else len(options)
