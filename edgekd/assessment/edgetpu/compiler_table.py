"""Which operator of a graph each row of the compiler's table means.

The table counts operators by name and status, and does not say which ones it means. The compiled
file does: an operator that stays on the CPU keeps the name of the tensor that it writes. Where the
text was cut, and the table lacks an operator, the compiled file alone decides.
"""

from __future__ import annotations

import collections

from edgekd.assessment.check_record import CompilerReport, Origin
from edgekd.assessment.compiler_answer import CompiledForDevice
from edgekd.assessment.edgetpu.status import LEFT_TO_CPU
from edgekd.assessment.model_placement import (
    ModelPlacement,
    float_islands,
    share_of_macs,
)
from edgekd.assessment.op_placement import OpPlacement, partitions
from edgekd.core.records import present
from edgekd.tflite.flatbuffer import LiteGraph


def placed_by_compiler(
    graph: LiteGraph, answer: CompiledForDevice, consumer: str
) -> ModelPlacement:
    """The placement of a model by the table that the compiler printed for it."""
    left = _statuses(answer.report)
    names = {
        op.index: {graph.tensors[index].name for index in op.outputs} & answer.cpu_outputs
        for op in graph.ops
    }
    placements: dict[int, OpPlacement] = {}
    # The operators that are known to stay on the CPU take their rows first.
    for op in sorted(graph.ops, key=lambda op: not names[op.index]):
        statuses = left[op.name]
        on_cpu = bool(names[op.index])
        status = next((one for one in statuses if (one == answer.mapped) != on_cpu), "")
        status = status or next(iter(statuses), LEFT_TO_CPU if on_cpu else answer.mapped)
        if status in statuses:
            statuses.remove(status)
        placements[op.index] = OpPlacement(op.index, op.name, status == answer.mapped, status)
    rows = tuple(placements[op.index] for op in graph.ops)
    return ModelPlacement(
        consumer,
        Origin.COMPILER,
        rows,
        share_of_macs(graph, rows),
        present(answer.report.subgraphs) or partitions(graph, list(rows)),
        tuple(float_islands(graph)),
    )


def _statuses(report: CompilerReport) -> dict[str, list[str]]:
    """{operator: the status of each, in the order of the table}."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for row in report.rows:
        found[row.op] += [row.status] * row.count
    return found
