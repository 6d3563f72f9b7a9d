"""The edits of a graph, ranked by what a device gains from them, and the one that helps most."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from edgekd.assessment import graph_edits
from edgekd.assessment.assess import Assessment, assess, unmet_limits
from edgekd.assessment.check_record import DeviceCheck, EditRow, OpRow
from edgekd.assessment.graph_edits import Edit
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.core.records import present
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import LiteGraph

IN_THE_NETWORK = "change the network, and convert it again"
ANOTHER_STUDENT = (
    "choose a student whose operators the device loads, such as mobilenetv2_050: "
    "edgekd check mobilenetv2_050 --profile {profile}"
)
# Share of the latency that an edit must save to be listed: less is within the model's own error.
WORTH = 0.01


def ranked(
    graph: LiteGraph,
    profile: DeviceProfile,
    before: Assessment,
    file_bytes: int,
    *,
    finished: bool = False,
) -> list[EditRow]:
    """The edits that save time or map more operators, by predicted gain.

    An edit that only maps more operators comes after those that save time. `before`: the
    assessment of the graph as it is. `file_bytes`: size of its `.tflite`. `finished`: whether a
    finished file was checked, which no setting changes.
    """
    found: Iterable[EditRow | None] = (
        _row(edit, profile, before, file_bytes)
        for edit in graph_edits.edits(graph, profile.channel_multiple)
    )
    if finished:
        found = (row and msgspec.structs.replace(row, sets={}, how=IN_THE_NETWORK) for row in found)
    loads = before.loading.loads  # where it does not, only edits after which something maps help
    return sorted(
        (row for row in found if row is not None and (loads or row.mapped)),
        key=lambda row: -(row.gain_ms if row.gain_ms is not None else -math.inf),
    )


def _row(edit: Edit, profile: DeviceProfile, before: Assessment, file_bytes: int) -> EditRow | None:
    """What the device makes of an edited graph, None where the edit is not worth a row."""
    after = assess(edit.graph, profile)
    gain, saves = None, False
    was, becomes = before.predicted.latency_ms, after.predicted.latency_ms
    if was is not None and becomes is not None:
        gain = was - becomes
        saves = gain > WORTH * was
    more = len(before.mapped.fallback) - len(after.mapped.fallback)
    # A first part is no split.
    joined = before.mapped.partitions and before.mapped.partitions - after.mapped.partitions
    freed = _freed(profile, before, after, file_bytes)
    helps = more > 0 or joined > 0 or freed > 0
    if not saves and (not helps or more < 0 or joined < 0):
        return None
    why = [
        f"{more} more ops map" if more > 0 else "",
        f"{joined} fewer delegate parts" if joined > 0 else "",
        f"{gain:.3g} ms less" if saves else "",
        f"{freed / 1024:.0f} KiB less arena" if freed > 0 else "",
    ]
    mapped = after.mapped.block()
    return EditRow(
        edit=edit.what,
        key=edit.key,
        why=", ".join(filter(None, why)),
        how=edit.how,
        sets=dict(edit.sets),
        gain_ms=gain,
        latency_ms=becomes,
        mapped=mapped.mapped,
        ops=mapped.ops,
        share_of_macs=mapped.share_of_macs,
        passes=not unmet_limits(after, profile, file_bytes),
        ends_at=mapped.ends_at,
    )


def _freed(profile: DeviceProfile, before: Assessment, after: Assessment, file_bytes: int) -> int:
    """Bytes of the arena that an edit saves, where the model is too large; else 0."""
    if not mapper_for(profile).too_large(before.memory, profile, file_bytes):
        return 0
    saved = before.memory.arena_bytes - after.memory.arena_bytes
    return saved if saved > WORTH * before.memory.arena_bytes else 0


def fixing_edit(check: DeviceCheck) -> EditRow | None:
    """The edit that removes the cause of a failure, None where there is none.

    Either the operator that ends the mapping no longer does, or the limits are met. Of several
    such edits, the one after which most of the multiply-accumulates map.
    """

    def cause(row: OpRow | None) -> tuple[str, str] | None:
        return None if row is None else (row.op, row.status)

    ends = cause(check.mapped.ends_at)
    helpful = [
        row
        for row in check.edits
        if (ends and cause(row.ends_at) != ends) or (row.passes and not check.passed)
    ]
    return max(helpful, key=lambda row: (row.passes, row.share_of_macs or 0.0), default=None)


def next_step(check: DeviceCheck, *, finished: bool = False) -> str:
    """What to do about a failed check: the edit that fixes it, else the one that saves most.

    `finished`: whether a finished file was checked.
    """
    load = present(check.loading)
    refused = load is not None and not load.loads
    fixing = fixing_edit(check)
    if load is not None and refused and (finished or fixing is None):
        return load.next_step if finished else ANOTHER_STUDENT.format(profile=check.profile)
    edit = fixing or next(iter(check.edits), None)
    if edit is None:
        another = "" if finished else "choose another student (edgekd models), or "
        return (
            f"{another}choose another device (edgekd profiles), or a profile of your own with "
            "other limits: min_mapped, max_memory_share"
        )
    compiler = present(check.compiler)
    # What --fix works towards. No edit is known to help a compiler that fails.
    whole = edit.passes and edit.ends_at is None and (compiler is None or compiler.succeeded)
    automatic = "; --fix does it" if edit.sets and edit is fixing and whole else ""
    return f"{edit.edit}: {edit.how}{automatic}"
