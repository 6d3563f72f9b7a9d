"""What a device will make of a graph: operators that map, memory, latency, and the limits not met.

Nothing here runs a model, and nothing is trained.
"""

from __future__ import annotations

import dataclasses

import msgspec

from edgekd.assessment import workload
from edgekd.assessment.check_record import (
    CompilerReport,
    LoadBlock,
    Memory,
    Origin,
    Prediction,
    percent,
)
from edgekd.assessment.compiler_answer import CompiledForDevice
from edgekd.assessment.edgetpu.compiler_table import placed_by_compiler
from edgekd.assessment.edgetpu.edgetpu_cost import CacheUse
from edgekd.assessment.loading import judge_loading
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.assessment.model_placement import ModelPlacement, place_model, place_nothing
from edgekd.assessment.prediction import predict, unpredicted
from edgekd.core.records import present
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import LiteGraph

NAMED = 3  # operators that one message names


@dataclasses.dataclass(frozen=True)
class Assessment:
    """One graph on one device."""

    loading: LoadBlock
    mapped: ModelPlacement
    memory: Memory
    predicted: Prediction


def assess(graph: LiteGraph, profile: DeviceProfile, refusal: str = "") -> Assessment:
    """Map a graph by the published rules, plan its memory, and predict its latency.

    `refusal`: why an interpreter did not allocate the file, "" where it did or was not asked.
    Raises ProfileError when the profile's latency file is broken, UnknownName for a mapper that is
    not registered.
    """
    loading = judge_loading(graph, profile, refusal)
    if not loading.loads:
        basis = f"{loading.by} cannot load the file"
        nothing = place_nothing(graph, profile, loading)
        memory = mapper_for(profile).memory(graph, profile)
        return Assessment(loading, nothing, memory, unpredicted(basis))
    mapped = place_model(graph, profile)
    return _priced(graph, profile, loading, mapped, None)


def assess_compiled(
    graph: LiteGraph, profile: DeviceProfile, loading: LoadBlock, answer: CompiledForDevice
) -> Assessment:
    """What the device's compiler made of a graph, in place of what the rules predict.

    `loading`: of the rules. A file that the compiler has read can be loaded.
    """
    report = answer.report
    by = f"{present(report.program) or mapper_for(profile).compiler} {report.version}"
    loading = msgspec.structs.replace(loading, by=by, loads=True, refused=[], next_step="")
    mapped = placed_by_compiler(graph, answer, mapper_for(profile).consumer(profile))
    return _priced(graph, profile, loading, mapped, report)


def _priced(
    graph: LiteGraph,
    profile: DeviceProfile,
    loading: LoadBlock,
    mapped: ModelPlacement,
    report: CompilerReport | None,
) -> Assessment:
    """The memory and the latency of a placement. `report`: the compiler's own figures, if any."""
    memory = mapper_for(profile).memory(graph, profile)
    streamed = 0
    if mapped.origin is not Origin.COMPILED:
        placed = zip(workload.work(graph), mapped.placements, strict=True)
        on = [row for row, one in placed if one.mapped]
        cache = mapper_for(profile).cache(on, memory.arena_bytes, profile)
        if cache is not None:
            cache = _by_compiler(cache, report)
            streamed = cache.streamed_bytes
            memory = _with_cache(memory, cache, profile)
    return Assessment(loading, mapped, memory, predict(graph, profile, mapped, streamed))


def _by_compiler(cache: CacheUse, report: CompilerReport | None) -> CacheUse:
    """The use of the accelerator's memory with the compiler's figures where it printed them."""
    if report is None:
        return cache
    cached = present(report.cached_bytes)
    left, streamed = present(report.cache_left_bytes), present(report.streamed_bytes)
    if cached is None or left is None or streamed is None:
        return cache
    return dataclasses.replace(
        cache, budget_bytes=cached + left, cached_bytes=cached, streamed_bytes=streamed
    )


def _with_cache(memory: Memory, cache: CacheUse, profile: DeviceProfile) -> Memory:
    """Add the accelerator's memory, and how long each link streams what does not fit."""
    memory = msgspec.structs.replace(
        memory,
        edgetpu_sram_bytes=cache.sram_bytes,
        edgetpu_executable_bytes=cache.executable_bytes,
        edgetpu_scratch_bytes=cache.scratch_bytes,
        edgetpu_budget_bytes=cache.budget_bytes,
        edgetpu_cached_bytes=cache.cached_bytes,
        edgetpu_streamed_bytes=cache.streamed_bytes,
    )
    if not profile.link_mb_s:
        return memory
    links = {
        link: cache.streamed_bytes / (speed * 1e6) * 1e3
        for link, speed in profile.link_mb_s.items()
    }
    return msgspec.structs.replace(memory, streaming_ms=links)


def unmet_limits(found: Assessment, profile: DeviceProfile, file_bytes: int) -> list[str]:
    """The profile's limits that are not met, each in one sentence."""
    loads = found.loading.loads
    failed = _unmapped(found.mapped, profile.min_mapped) if loads else _unloaded(found.loading)
    return [*failed, *mapper_for(profile).too_large(found.memory, profile, file_bytes)]


def _unloaded(load: LoadBlock) -> list[str]:
    """The operators for which the file cannot be loaded, each in one sentence."""
    if load.words:
        return [load.words]
    more = len(load.refused) - NAMED
    return [
        *(f"{load.by} cannot load this file: {row.op} {row.why}" for row in load.refused[:NAMED]),
        *([f"and {more} more operators"] if more > 0 else []),
    ]


def _unmapped(mapped: ModelPlacement, wanted: float) -> list[str]:
    """That too little of the model maps. A model without MACs is judged by its operators."""
    first = mapped.first
    share, what = mapped.share_of_macs, "multiply-accumulates"
    if share is None:
        share, what = mapped.share_of_ops, "operators"
    if mapped.origin is Origin.COMPILED or first is None or share >= wanted:
        return []
    reason = f"{first.op} #{first.index}: {first.status}" + (f" ({first.why})" if first.why else "")
    failed = (
        f"{percent(share)} of the {what} map on {mapped.consumer}, the profile asks for "
        f"{percent(wanted)}; the first that does not map is {reason}"
    )
    return [failed]
