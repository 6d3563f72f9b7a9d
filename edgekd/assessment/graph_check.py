"""The answer of `edgekd check` for a graph: one record that holds everything (edgekd.check/1)."""

from __future__ import annotations

import msgspec

from edgekd.assessment.assess import assess, memory_limit, unmet_limits
from edgekd.assessment.check_record import DeviceCheck
from edgekd.assessment.edgetpu import compiled_file
from edgekd.assessment.edit_ranking import ranked
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.core.records import UNSET
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import LiteGraph


def check_graph(
    graph: LiteGraph,
    profile: DeviceProfile,
    name: str,
    *,
    file_bytes: int | None = None,
    measured_arena: int | None = None,
    notes: tuple[str, ...] = (),
) -> DeviceCheck:
    """Check a graph against a profile.

    `name`: what the answer calls the model. `file_bytes`: size of its `.tflite`, None where there
    is no file. `measured_arena`: bytes that an interpreter allocated, None where no interpreter was
    run. `notes`: what else a reader must know. Raises ProfileError when the profile's latency file
    is broken, UnknownName for a mapper that is not registered.
    """
    found = assess(graph, profile)
    size = file_bytes if file_bytes is not None else found.memory.parameter_bytes
    compiled = compiled_file.read_back(graph) if compiled_file.is_compiled(graph) else UNSET
    failures = unmet_limits(found, profile, size)
    # No edit helps a file that cannot be loaded, and none can be made to a compiled one.
    editable = compiled is UNSET and found.loading.loads
    deprecated = [profile.deprecated] if profile.deprecated else []
    return DeviceCheck(
        model=name,
        profile=profile.name,
        passed=not failures,
        mapped=found.mapped.block(),
        memory=msgspec.structs.replace(
            found.memory,
            file_bytes=file_bytes,
            limit_bytes=round(memory_limit(profile)),
            interpreter_arena_bytes=measured_arena,
        ),
        predicted=found.predicted,
        edits=ranked(graph, profile, found, size) if editable else [],
        failures=failures,
        notes=[*notes, *deprecated, *mapper_for(profile).remarks(graph, profile)],
        loading=found.loading,
        compiled=compiled,
    )
