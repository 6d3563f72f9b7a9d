"""Whether each op of a model runs where it should: the common form in which every consumer's rules answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from edgekd.tflite.flatbuffer import LiteGraph, LiteOp


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One op's fate. `status`: in the consumer's own words. `why`: the rule behind it, "" when the status says it all."""

    index: int
    op: str
    mapped: bool
    status: str
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """One row of the blocks "fallback" and "ends_at"."""
        return {"op": self.op, "index": self.index, "status": self.status, "why": self.why}


# A consumer's judgement of one op by itself: (status, why) when it refuses, None when it takes the op.
Refusal = tuple[str, str]
Judge = Callable[[LiteGraph, LiteOp], Refusal | None]


def judge_all(graph: LiteGraph, judge: Judge, accepted: str) -> list[Verdict]:
    """Each op by itself: what one refusal means for the ops after it is not looked at."""
    return [
        Verdict(
            op.index,
            op.name,
            refusal is None,
            accepted if refusal is None else refusal[0],
            "" if refusal is None else refusal[1],
        )
        for op in graph.ops
        for refusal in [judge(graph, op)]
    ]


def partitions(graph: LiteGraph, verdicts: list[Verdict]) -> int:
    """How many delegate parts the mapped ops form, as TFLite's PartitionGraphIntoIndependentNodeSubsets cuts them.

    Ops are taken in rounds: all ops of one kind (mapped or not) whose inputs are there make one part, then the other
    kind has its turn.
    """
    made_by = {output: op.index for op in graph.ops for output in op.outputs}
    waiting = {op.index: {made_by[i] for i in op.inputs if i in made_by} for op in graph.ops}
    mapped = {verdict.index: verdict.mapped for verdict in verdicts}
    done: set[int] = set()
    parts, turn = 0, bool(verdicts and verdicts[0].mapped)
    while len(done) < len(waiting):
        taken = 0
        while ready := [
            i for i in waiting if i not in done and mapped[i] == turn and waiting[i] <= done
        ]:
            done.update(ready)
            taken += len(ready)
        if not taken and not any(waiting[i] <= done for i in waiting if i not in done):
            break  # ops that wait for each other: a damaged file
        parts += bool(taken and turn)
        turn = not turn
    return parts
