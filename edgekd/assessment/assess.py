"""What a device will make of a graph: operators that map, memory, latency, and the limits not met.

Nothing here runs a model, and nothing is trained.
"""

from __future__ import annotations

import dataclasses

import msgspec

from edgekd.assessment import arena, workload
from edgekd.assessment.check_record import Memory, Origin, Prediction
from edgekd.assessment.edgetpu.edgetpu_cost import CacheUse
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.assessment.model_placement import ModelPlacement, place_model
from edgekd.assessment.prediction import predict
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import LiteGraph

MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Assessment:
    """One graph on one device."""

    mapped: ModelPlacement
    memory: Memory
    predicted: Prediction


def assess(graph: LiteGraph, profile: DeviceProfile) -> Assessment:
    """Map a graph, plan its memory, and predict its latency.

    Raises ProfileError when the profile's latency file is broken, UnknownName for a mapper that is
    not registered.
    """
    mapped = place_model(graph, profile)
    works = workload.work(graph)
    planned = arena.plan(graph)
    memory = Memory(
        arena_bytes=planned.peak_bytes,
        parameter_bytes=sum(row.parameter_bytes for row in works),
        busiest_op=planned.busiest_op,
        busiest_op_bytes=planned.busiest_bytes,
    )
    streamed = 0
    if mapped.origin is Origin.PREDICTED:
        on = [row for row, one in zip(works, mapped.placements, strict=True) if one.mapped]
        cache = mapper_for(profile).cache(on, planned.peak_bytes, profile)
        if cache is not None:
            streamed = cache.streamed_bytes
            memory = _with_cache(memory, cache, profile)
    return Assessment(mapped, memory, predict(graph, profile, mapped, streamed))


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


def memory_limit(profile: DeviceProfile) -> float:
    """How many bytes the profile allows for the file and the arena together."""
    return profile.memory_mib * MIB * profile.max_memory_share


def unmet_limits(found: Assessment, profile: DeviceProfile, file_bytes: int) -> list[str]:
    """The profile's limits that are not met, each in one sentence."""
    failed = []
    share, first = found.mapped.share_of_macs, found.mapped.first
    if share is not None and share < profile.min_mapped:
        reason = ""
        if first is not None:
            reason = f"{first.op} #{first.index}: {first.status}"
            reason += f" ({first.why})" if first.why else ""
        failed.append(
            f"{share:.0%} of the multiply-accumulates map on {found.mapped.consumer}, the profile "
            f"asks for {profile.min_mapped:.0%}; the first that does not map is {reason}"
        )
    need, limit = file_bytes + found.memory.arena_bytes, memory_limit(profile)
    if need > limit:
        failed.append(
            f"file and arena take {need / MIB:.0f} MiB, the profile allows {limit / MIB:.0f} MiB "
            f"({profile.max_memory_share:.0%} of {profile.memory_mib} MiB)"
        )
    return failed
