"""`edgekd check`: what a device will make of a model, before anything is trained.

A graph and a profile in, one JSON body out (schema edgekd.check/1): which ops map and why not, memory, predicted latency
with its interval, and what to edit, ranked by predicted gain. Nothing here runs a model.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekd.assessment import arena, graph_edits, latency, workload
from edgekd.assessment.edgetpu import compiled_file, edgetpu_cost
from edgekd.assessment.latency import LatencyModel
from edgekd.assessment.mapping import Mapped, map_model
from edgekd.assessment.workload import Work
from edgekd.settings.device_profiles import DeviceProfile, load_profile
from edgekd.tflite.flatbuffer import LiteGraph

SCHEMA = "edgekd.check/1"
MIB = 2**20
EACH_RUN = "(start of a run)"  # not an op's time: starting an inference, and streaming parameters
NOTHING = {"latency_ms": None, "low_ms": None, "high_ms": None}
PREFER = ("int8", "fp32")  # which rows stand in where a profile has none of a model's own precision
WORTH = 0.01  # share of the latency that an edit must save to be worth a line: less is within the model's own error
# Oldest versions that TensorFlow's converter writes for int8 kernels; lower ones are ai-edge-quantizer's mark.
INT8_VERSION = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "ADD": 2, "FULLY_CONNECTED": 4}


@dataclasses.dataclass(frozen=True)
class Assessment:
    """One graph on one device. `links`: milliseconds of streaming by link, empty without an accelerator's cache."""

    mapped: Mapped
    memory: dict[str, Any]
    links: dict[str, float]
    predicted: dict[str, Any]


def assess(graph: LiteGraph, profile: DeviceProfile) -> Assessment:
    """Map, plan and price a graph. Raises ProfileError when the profile's latency file is broken."""
    mapped = map_model(graph, profile)
    works = workload.work(graph)
    planned = arena.plan(graph)
    memory: dict[str, Any] = {
        "arena_bytes": planned.peak_bytes,
        "parameter_bytes": sum(row.parameter_bytes for row in works),
        "busiest_op": planned.busiest_op,
        "busiest_op_bytes": planned.busiest_bytes,
    }
    links: dict[str, float] = {}
    streamed = 0
    if profile.parameter_cache_mib and mapped.origin != "compiled file":
        on = [row for row, verdict in zip(works, mapped.verdicts, strict=True) if verdict.mapped]
        cache = edgetpu_cost.cache(on, planned.peak_bytes, profile.parameter_cache_mib * MIB)
        streamed = cache["streamed_bytes"]
        memory |= {f"edgetpu_{key}": value for key, value in cache.items()}
        links = {link: streamed / (speed * 1e6) * 1e3 for link, speed in profile.link_mb_s.items()}
    return Assessment(mapped, memory, links, predict(graph, profile, mapped, streamed))


def predict(
    graph: LiteGraph, profile: DeviceProfile, mapped: Mapped, streamed_bytes: int
) -> dict[str, Any]:
    """{"latency_ms", "low_ms", "high_ms", "basis", "time_by_op"} of a graph: the mapped ops where they map, the others on the
    CPU. `time_by_op`: {op: ms}, and EACH_RUN's, which add up to the whole; absent where nothing is predicted.
    """
    if mapped.origin == "compiled file":
        return {
            **NOTHING,
            "basis": "a compiled file no longer says what it computes; check the model it was made from",
        }
    if not profile.latency:
        return {
            **NOTHING,
            "basis": f"no measurements of {profile.name} to rest on: {profile.sources['latency']}",
        }
    wanted = workload.precision(graph)
    model, note = of_precision(latency.read(Path(profile.latency)), wanted)
    works = workload.work(graph)
    on = [row for row, verdict in zip(works, mapped.verdicts, strict=True) if verdict.mapped]
    away = [row for row, verdict in zip(works, mapped.verdicts, strict=True) if not verdict.mapped]
    if (
        not profile.fallback_cpu
    ):  # what has no kernel of the listed kind still runs on the same cores
        told = model.predict(workload.features(works))
        return {
            **told,
            "basis": told["basis"] + note,
            "time_by_op": _time_by_op(model, works, workload.features),
        }
    parts: list[dict[str, Any]] = []
    times: Counter[str] = Counter()
    if on:

        def count(rows: Sequence[Work]) -> dict[str, float]:
            return (
                edgetpu_cost.features(rows, streamed_bytes)
                if profile.mapper == "edgetpu"
                else workload.features(rows)
            )

        parts.append(model.predict(count(on)))
        times.update(_time_by_op(model, on, count))
    if away:
        cpu = load_profile(profile.fallback_cpu)
        if not cpu.latency:
            return {
                **NOTHING,
                "basis": f"{len(away)} ops fall back to {cpu.name}, of which nothing was measured",
            }
        cpu_model, cpu_note = of_precision(latency.read(Path(cpu.latency)), wanted)

        def counted(rows: Sequence[Work]) -> dict[str, float]:
            return {
                **workload.features(rows),
                **({"constant": 0.0} if on else {}),
            }  # one inference, one constant

        told = cpu_model.predict(counted(away))
        times.update(_time_by_op(cpu_model, away, counted))
        parts.append(
            {
                **told,
                "basis": f"{len(away)} ops on the CPU as on {cpu.name}: {told['basis']}{cpu_note}",
            }
        )
    total = {key: sum(part[key] for part in parts) for key in NOTHING}
    return {
        **total,
        "basis": "; plus ".join(part["basis"] for part in parts) + note,
        "time_by_op": dict(times),
    }


def _time_by_op(
    model: LatencyModel, works: Sequence[Work], count: Callable[[Sequence[Work]], dict[str, float]]
) -> dict[str, float]:
    """{op: predicted ms of all ops of its kind}, and what a run takes without any op under EACH_RUN. The model is additive."""
    start = model.cost(count([]))
    kinds = dict.fromkeys(row.op for row in works)
    return {
        kind: model.cost(count([row for row in works if row.op == kind])) - start for kind in kinds
    } | {EACH_RUN: start}


def of_precision(models: Mapping[str, LatencyModel], wanted: str) -> tuple[LatencyModel, str]:
    """(model, what to add to the basis) for a precision; another one's rows where there are none of it."""
    if wanted in models:
        return models[wanted], ""
    other = next(name for name in (*PREFER, *models) if name in models)
    return models[other], f"; the rows are of {other} models, and this one is {wanted}"


def check(
    graph: LiteGraph,
    profile: DeviceProfile,
    name: str,
    *,
    file_bytes: int | None = None,
    measured_arena: int | None = None,
    notes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The whole answer. `file_bytes`: of the .tflite; `measured_arena`: what an interpreter allocated, where one was
    asked; `notes`: what else a reader must know.
    """
    found = assess(graph, profile)
    limit = round(profile.memory_mib * MIB * profile.max_memory_share)
    size = file_bytes if file_bytes is not None else found.memory["parameter_bytes"]
    memory = {
        **found.memory,
        "file_bytes": file_bytes,
        "limit_bytes": limit,
        "interpreter_arena_bytes": measured_arena,
    }
    if found.links:
        memory["streaming_ms"] = found.links
    failures = gates(found, profile, size)
    body: dict[str, Any] = {
        "schema": SCHEMA,
        "model": name,
        "profile": profile.name,
        "passed": not failures,
        "mapped": found.mapped.to_json(),
        "memory": memory,
        "predicted": found.predicted,
        "edits": ranked(graph, profile, found, size),
        "failures": failures,
        "notes": [*notes, *remarks(graph, profile)],
    }
    if compiled_file.is_compiled(graph):
        body["compiled"] = compiled_file.read_back(graph).to_json()
        body["edits"] = []
    return body


def gates(found: Assessment, profile: DeviceProfile, file_bytes: int) -> list[str]:
    """What of the profile's floor is not met, each in one sentence."""
    failed = []
    share, first = found.mapped.share_of_macs, found.mapped.first
    if share is not None and share < profile.min_mapped:
        reason = (
            f"{first.op} #{first.index}: {first.status}" + (f" ({first.why})" if first.why else "")
            if first
            else ""
        )
        failed.append(
            f"{share:.0%} of the multiply-accumulates map on {found.mapped.consumer}, the profile asks for "
            f"{profile.min_mapped:.0%}; the first to stay behind is {reason}"
        )
    need, limit = (
        file_bytes + found.memory["arena_bytes"],
        profile.memory_mib * MIB * profile.max_memory_share,
    )
    if need > limit:
        failed.append(
            f"file and arena take {need / MIB:.0f} MiB, the profile allows {limit / MIB:.0f} MiB "
            f"({profile.max_memory_share:.0%} of {profile.memory_mib} MiB)"
        )
    return failed


def ranked(
    graph: LiteGraph, profile: DeviceProfile, before: Assessment, file_bytes: int
) -> list[dict[str, Any]]:
    """Edits by predicted gain; one that only maps more ops comes after those that save time, and none is neutral."""
    rows = []
    for edit in graph_edits.edits(graph, profile.channel_multiple):
        after = assess(edit.graph, profile)
        gain = None
        if before.predicted["latency_ms"] is not None and after.predicted["latency_ms"] is not None:
            gain = before.predicted["latency_ms"] - after.predicted["latency_ms"]
        more = len(before.mapped.fallback) - len(after.mapped.fallback)
        joined = before.mapped.partitions - after.mapped.partitions
        saves = gain is not None and gain > WORTH * before.predicted["latency_ms"]
        if not saves and ((more <= 0 and joined <= 0) or more < 0 or joined < 0):
            continue
        why = [
            f"{more} more ops map" if more > 0 else "",
            f"{joined} fewer delegate parts" if joined > 0 else "",
            f"{gain:.3g} ms less" if saves else "",
        ]
        ends = after.mapped.first
        rows.append(
            {
                "edit": edit.what,
                "key": edit.key,
                "why": ", ".join(filter(None, why)),
                "how": edit.how,
                "sets": dict(edit.sets),
                "gain_ms": gain,
                "latency_ms": after.predicted["latency_ms"],
                "mapped": len(after.mapped.verdicts) - len(after.mapped.fallback),
                "ops": len(after.mapped.verdicts),
                "share_of_macs": after.mapped.share_of_macs,
                "passes": not gates(after, profile, file_bytes),
                "ends_at": None if ends is None else ends.to_json(),
            }
        )
    return sorted(
        rows, key=lambda row: -(row["gain_ms"] if row["gain_ms"] is not None else -math.inf)
    )


def remarks(graph: LiteGraph, profile: DeviceProfile) -> list[str]:
    """What is odd about a file, or to be known of the device."""
    found = []
    if profile.deprecated:
        found.append(profile.deprecated)
    old = [
        op
        for op in graph.ops
        if op.name in INT8_VERSION
        and op.version < INT8_VERSION[op.name]
        and graph.tensors[op.outputs[0]].dtype == "INT8"
    ]
    if old and profile.mapper == "edgetpu":
        found.append(
            f"{old[0].name} #{old[0].index} is version {old[0].version}, where TensorFlow's converter writes "
            f"{INT8_VERSION[old[0].name]} for int8: of such files of ai-edge-quantizer, edgetpu_compiler mapped 4 "
            f"of 68 ops in one report"
        )
    return found
