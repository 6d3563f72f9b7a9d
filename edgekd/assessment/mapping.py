"""Which ops of a model run where a profile wants them: one question, answered by the rules that the profile names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from edgekd.assessment import nnapi_rules
from edgekd.assessment.edgetpu import compiled_file, edgetpu_rules
from edgekd.assessment.op_placement import Refusal, Verdict, judge_all, partitions
from edgekd.assessment.workload import work
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp

BUILT_IN = "built-in"  # how a profile's [ops.legal] marks an op that runs, but outside the delegate
NO_KERNEL = "no kernel for this op"
OTHER_FORMATS = frozenset(
    {"QUANTIZE", "DEQUANTIZE"}
)  # they stand between formats and belong to no island


@dataclasses.dataclass(frozen=True)
class Mapped:
    """The verdicts of one model on one device. `origin`: "predicted", or "compiled file" where it was read back.

    `share_of_macs`: of the multiply-accumulates, None where the file no longer says. `partitions`: delegate parts.
    `islands`: runs of float ops in an otherwise integer graph, {"first", "last" (op indices), "ops"}.
    """

    consumer: str
    origin: str
    verdicts: tuple[Verdict, ...]
    share_of_macs: float | None
    partitions: int
    islands: tuple[dict[str, Any], ...]

    @property
    def fallback(self) -> list[Verdict]:
        """The ops that stay on the CPU, or that nothing runs."""
        return [verdict for verdict in self.verdicts if not verdict.mapped]

    @property
    def first(self) -> Verdict | None:
        """The op that ends the partition: the first refused for a reason of its own."""
        return next((v for v in self.fallback if v.status != edgetpu_rules.ANOTHER_SUBGRAPH), None)

    def to_json(self) -> dict[str, Any]:
        """The "mapped" block of check and report."""
        return {
            "ops": len(self.verdicts),
            "mapped": len(self.verdicts) - len(self.fallback),
            "share_of_macs": self.share_of_macs,
            "consumer": self.consumer,
            "origin": self.origin,
            "partitions": self.partitions,
            "ends_at": None if self.first is None else self.first.to_json(),
            "float_islands": list(self.islands),
            "fallback": [verdict.to_json() for verdict in self.fallback],
        }


def map_model(graph: LiteGraph, profile: DeviceProfile) -> Mapped:
    """Map a model by the profile's rules; a compiled Edge TPU file is read as it is."""
    if compiled_file.is_compiled(graph):
        verdicts = [
            Verdict(
                op.index,
                op.name,
                op.name == "CUSTOM",
                edgetpu_rules.MAPPED if op.name == "CUSTOM" else "left to the CPU by the compiler",
            )
            for op in graph.ops
        ]
        return Mapped(
            "Edge TPU", "compiled file", tuple(verdicts), None, partitions(graph, verdicts), ()
        )
    consumer, verdicts = MAPPERS[profile.mapper](graph, profile)
    macs = [row.macs for row in work(graph)]
    on = sum(count for count, verdict in zip(macs, verdicts, strict=True) if verdict.mapped)
    delegated = [
        dataclasses.replace(v, mapped=v.mapped and not v.status.startswith(BUILT_IN))
        for v in verdicts
    ]
    return Mapped(
        consumer,
        "predicted",
        tuple(verdicts),
        on / sum(macs) if sum(macs) else 1.0,
        partitions(graph, delegated),
        tuple(islands(graph)),
    )


Mapper = Callable[[LiteGraph, DeviceProfile], tuple[str, list[Verdict]]]


def _kernels(graph: LiteGraph, profile: DeviceProfile) -> tuple[str, list[Verdict]]:
    def judge(_graph: LiteGraph, op: LiteOp) -> Refusal | None:
        return (
            None
            if op.name in profile.ops
            else (NO_KERNEL, f"{op.name} is not in the profile's [ops.legal]")
        )

    found = judge_all(graph, judge, "")
    return profile.runtime, [
        dataclasses.replace(v, status=profile.ops[v.op]) if v.mapped else v for v in found
    ]


def _edgetpu(graph: LiteGraph, profile: DeviceProfile) -> tuple[str, list[Verdict]]:
    return "Edge TPU", edgetpu_rules.map_graph(
        graph, many_subgraphs=bool(profile.compiler.get("many_subgraphs"))
    )


def _nnapi(graph: LiteGraph, profile: DeviceProfile) -> tuple[str, list[Verdict]]:
    judge = nnapi_rules.judge_for(profile.api_level, profile.accelerator)
    return f"NNAPI, API {profile.api_level}", judge_all(graph, judge, nnapi_rules.MAPPED)


MAPPERS: dict[str, Mapper] = {"kernels": _kernels, "edgetpu": _edgetpu, "nnapi": _nnapi}


def islands(graph: LiteGraph) -> list[dict[str, Any]]:
    """Runs of ops that compute floats, in a graph that also computes integers; empty for a float model."""
    floats = [
        graph.tensors[op.outputs[0]].dtype.startswith("FLOAT") and op.name not in OTHER_FORMATS
        for op in graph.ops
    ]
    if all(floats):
        return []
    found: list[dict[str, Any]] = []
    for op, is_float in zip(graph.ops, floats, strict=True):
        if is_float and found and found[-1]["last"] == op.index - 1:
            found[-1] = {**found[-1], "last": op.index, "ops": found[-1]["ops"] + 1}
        elif is_float:
            found.append({"first": op.index, "last": op.index, "ops": 1})
    return found
