"""The answer of `edgekd check` for a graph: one record that holds everything (edgekd.check/1)."""

from __future__ import annotations

import msgspec

from edgekd.assessment.arena import Allocation
from edgekd.assessment.assess import assess, assess_compiled, unmet_limits
from edgekd.assessment.check_record import DeviceCheck
from edgekd.assessment.compiler_answer import CompiledForDevice, CompilerAnswer, CompilerFailed
from edgekd.assessment.edgetpu import compiled_file
from edgekd.assessment.edit_ranking import next_step, ranked
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.core.records import UNSET
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import LiteGraph

NOT_RUN = Allocation()


def check_graph(
    graph: LiteGraph,
    profile: DeviceProfile,
    name: str,
    *,
    file_bytes: int | None = None,
    finished: bool = False,
    allocation: Allocation = NOT_RUN,
    compiler: CompilerAnswer = None,
    notes: tuple[str, ...] = (),
) -> DeviceCheck:
    """Check a graph against a profile.

    `name`: what the answer calls the model. `file_bytes`: size of its `.tflite`, None where there
    is no file. `finished`: whether it is a file that no setting changes. `allocation`:
    what an interpreter made of the file. `compiler`: what the device's
    own compiler answered; where it made a file, its table decides. `notes`: what else a reader must
    know. Raises ProfileError when the profile's latency file is broken, UnknownName for a mapper
    that is not registered.
    """
    rules = assess(graph, profile, allocation.refusal)
    found = rules
    if isinstance(compiler, CompiledForDevice):
        found = assess_compiled(graph, profile, rules.loading, compiler)
    size = file_bytes if file_bytes is not None else found.memory.parameter_bytes
    compiled = compiled_file.read_back(graph) if compiled_file.is_compiled(graph) else UNSET
    # No edit helps a file that cannot be loaded, and none can be made to a compiled one.
    editable = compiled is UNSET and (rules.loading.loads or not finished)
    edits = ranked(graph, profile, rules, size, finished=finished) if editable else []
    failures = unmet_limits(found, profile, size)
    if isinstance(compiler, CompilerFailed):
        failures = [compiler.what, *failures]
    deprecated = [profile.deprecated] if profile.deprecated else []
    check = DeviceCheck(
        model=name,
        profile=profile.name,
        passed=not failures,
        mapped=found.mapped.block(),
        memory=msgspec.structs.replace(
            found.memory,
            file_bytes=file_bytes,
            limit_bytes=round(mapper_for(profile).memory_limit(profile)),
            interpreter_arena_bytes=allocation.arena_bytes,
        ),
        predicted=found.predicted,
        edits=edits,
        failures=failures,
        notes=[*notes, *deprecated, *mapper_for(profile).remarks(graph, profile)],
        loading=found.loading,
        rules=UNSET if found is rules else rules.mapped.block(),
        compiled=compiled,
        compiler=UNSET if compiler is None else compiler.report,
    )
    if check.passed:
        return check
    step = next_step(check, finished=finished)
    if isinstance(compiler, CompilerFailed) and len(failures) == 1:
        step = compiler.next_step  # the rules find nothing wrong
    return msgspec.structs.replace(check, next_step=step)
