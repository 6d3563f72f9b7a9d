"""Where each operator of a model runs: the common form of what every mapper answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from edgekd.assessment.check_record import OpRow
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp


@dataclasses.dataclass(frozen=True)
class OpPlacement:
    """Where one operator runs.

    `mapped`: whether it runs where the profile wants it. `status`: in the words of the device's
    own tools. `why`: the rule behind the status, "" when the status says everything.
    """

    index: int
    op: str
    mapped: bool
    status: str
    why: str = ""

    def row(self) -> OpRow:
        """One row of the blocks "fallback" and "ends_at"."""
        return OpRow(self.op, self.index, self.status, self.why)


# Why a device does not take an operator: (status in the device's own words, rule behind it).
Refusal = tuple[str, str]
# A device's judgement of one operator by itself: None when the device takes it.
Judge = Callable[[LiteGraph, LiteOp], Refusal | None]


# The status of an operator whose tensors are too few, or lack dimensions, for the rules to judge.
MISFIT = "its tensors do not fit the operator"
_MISFITS = (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError)


def place_each(graph: LiteGraph, judge: Judge, accepted: str) -> list[OpPlacement]:
    """Judge each operator by itself, without regard to the operators around it.

    `accepted`: the status of an operator that the device takes. An operator whose tensors lack what
    a rule looks at, in a damaged file, is refused.
    """
    placements = []
    for op in graph.ops:
        try:
            refusal = judge(graph, op)
        except _MISFITS:
            refusal = MISFIT, f"{op.name} with {len(op.inputs)} inputs of these shapes"
        status, why = (accepted, "") if refusal is None else refusal
        placements.append(OpPlacement(op.index, op.name, refusal is None, status, why))
    return placements


def partitions(graph: LiteGraph, placements: list[OpPlacement]) -> int:
    """How many parts of the graph a delegate takes.

    The cut is that of TFLite's PartitionGraphIntoIndependentNodeSubsets. It works in rounds: all
    operators of one kind (mapped or not) whose inputs are ready make one part, then the other
    kind has its turn.
    """
    made_by = {output: op.index for op in graph.ops for output in op.outputs}
    waiting = {op.index: {made_by[i] for i in op.inputs if i in made_by} for op in graph.ops}
    mapped = {one.index: one.mapped for one in placements}
    done: set[int] = set()
    parts, turn = 0, bool(placements and placements[0].mapped)
    while len(done) < len(waiting):
        taken = 0
        while ready := [
            i for i in waiting if i not in done and mapped[i] == turn and waiting[i] <= done
        ]:
            done.update(ready)
            taken += len(ready)
        if not taken and not any(waiting[i] <= done for i in waiting if i not in done):
            break  # operators that wait for each other: the file is damaged
        parts += bool(taken and turn)
        turn = not turn
    return parts
