"""The memory of a device that loads the file into RAM: what a model needs, and what is too much."""

from __future__ import annotations

from edgekd.assessment import arena, workload
from edgekd.assessment.check_record import Memory
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import LiteGraph

MIB = 2**20


def planned(graph: LiteGraph) -> Memory:
    """The arena of TFLite's interpreter as it plans it, and the parameters."""
    plan = arena.plan(graph)
    return Memory(
        arena_bytes=plan.peak_bytes,
        parameter_bytes=parameter_bytes(graph),
        busiest_op=plan.busiest_op,
        busiest_op_bytes=plan.busiest_bytes,
    )


def parameter_bytes(graph: LiteGraph) -> int:
    """Bytes of the constants that operators read."""
    return sum(row.parameter_bytes for row in workload.work(graph))


def limit(profile: DeviceProfile) -> float:
    """How many bytes the profile allows for the file and the arena together."""
    return profile.memory_mib * MIB * profile.max_memory_share


def too_large(memory: Memory, profile: DeviceProfile, file_bytes: int) -> list[str]:
    """That file and arena exceed the profile's limit, in one sentence; empty where they do not."""
    need, allowed = file_bytes + memory.arena_bytes, limit(profile)
    if need <= allowed:
        return []
    what = f"file and arena take {need / MIB:.0f} MiB, the profile allows {allowed / MIB:.0f} MiB"
    return [f"{what} ({profile.max_memory_share:.0%} of {profile.memory_mib} MiB)"]
