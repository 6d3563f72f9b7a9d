"""What a whole build says of a candidate: its row in search.json, and what limits it misses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edgekd.assessment.assess import assess
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.core import intervals
from edgekd.core.records import present
from edgekd.evaluation.accuracy_record import StageRow
from edgekd.reporting.report_record import Report
from edgekd.search.limits import Limits
from edgekd.search.record import FinalistRow, Latency, LimitName, Miss, Source
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.tflite.flatbuffer import read


@dataclasses.dataclass(frozen=True)
class About:
    """A candidate's name, the folder of its build below the search's, and what the build took.

    `command` builds it again.
    """

    name: str
    folder: str
    seconds: float
    command: str


@dataclasses.dataclass(frozen=True)
class OnDevice:
    """What a device makes of a finished file."""

    latency: Latency | None
    memory_bytes: int


def on_device(data: bytes, device: DeviceProfile) -> OnDevice:
    """Predict the latency and the memory of a .tflite."""
    judged = assess(read(data), device)
    memory = mapper_for(device).memory_use(judged.memory, len(data))
    predicted = judged.predicted
    if predicted.latency_ms is None:
        return OnDevice(None, memory)
    latency = Latency(
        profile=device.name,
        source=Source.PREDICTED,
        latency_ms=predicted.latency_ms,
        low_ms=predicted.low_ms,
        high_ms=predicted.high_ms,
        basis=predicted.basis,
    )
    return OnDevice(latency, memory)


def row(
    made: Report,
    data: bytes | None,
    limits: Limits,
    devices: Sequence[DeviceProfile],
    about: About,
) -> FinalistRow:
    """The row of a build. `data`: its .tflite. `devices`: that of the limits first."""
    accuracy, certificate = present(made.accuracy), present(made.certificate)
    student = None if accuracy is None else accuracy.row("tflite")
    drop = None if accuracy is None else _drop(accuracy.row("teacher"), student)
    judged = [] if data is None else [on_device(data, device) for device in devices]
    return FinalistRow(
        candidate=about.name,
        folder=about.folder,
        top1=None if student is None else student.top1,
        top1_ci95=None if student is None else student.top1_ci95,
        auc=None if student is None else student.auc,
        auc_ci95=None if student is None else student.auc_ci95,
        drop_points=None if drop is None else drop[0],
        drop_points_ci95=None if drop is None else drop[1],
        size_bytes=None if data is None else len(data),
        memory_bytes=judged[0].memory_bytes if judged else None,
        latencies=[each.latency for each in judged if each.latency is not None],
        certified=None if certificate is None else certificate.passed,
        gates=list(present(made.gates) or ()),
        misses=misses(
            limits,
            judged[0].latency if judged else None,
            None if data is None else len(data),
            judged[0].memory_bytes if judged else None,
            None if drop is None else drop[0],
        ),
        seconds=about.seconds,
        command=about.command,
    )


def refused(why: str, about: About) -> FinalistRow:
    """The row of a candidate whose build a gate has stopped."""
    return FinalistRow(
        candidate=about.name,
        folder=about.folder,
        top1=None,
        top1_ci95=None,
        auc=None,
        auc_ci95=None,
        drop_points=None,
        drop_points_ci95=None,
        size_bytes=None,
        memory_bytes=None,
        latencies=[],
        certified=None,
        gates=[why],
        misses=[],
        seconds=about.seconds,
        command=about.command,
    )


def good(made: FinalistRow) -> bool:
    """Whether a build has a certificate, and keeps every gate and limit."""
    return bool(made.certified) and not made.gates and not made.misses


def misses(
    limits: Limits,
    latency: Latency | None,
    size_bytes: int | None,
    memory_bytes: int | None,
    drop_points: float | None,
) -> list[Miss]:
    """The limits that a finished file misses.

    A predicted latency misses its limit where its whole interval does, as before training: the
    prediction leaves the rest open. A measured one is compared itself.
    """
    found: list[Miss] = []
    if limits.latency_ms is not None and latency is not None:
        least = latency.latency_ms if latency.low_ms is None else latency.low_ms
        if least > limits.latency_ms:
            text = f"at least {least:.3g} ms, and {limits.latency_ms:g} ms are allowed"
            found.append(Miss(LimitName.LATENCY, limits.latency_ms, least, text))
    for limit, allowed, taken in (
        (LimitName.SIZE, limits.size_bytes, size_bytes),
        (LimitName.MEMORY, limits.memory_bytes, memory_bytes),
    ):
        if allowed is not None and taken is not None and taken > allowed:
            text = f"{limit} {taken / 1e6:.3g} MB, and {allowed / 1e6:.3g} MB are allowed"
            found.append(Miss(limit, allowed, taken, text))
    allowed_drop = limits.drop_points
    # Shares are ratios of counts: a drop of exactly one point may be off by a rounding.
    if allowed_drop is not None and drop_points is not None and drop_points > allowed_drop + 1e-9:
        text = f"{drop_points:.2f} points below the teacher, and {allowed_drop:g} are allowed"
        found.append(Miss(LimitName.DROP, allowed_drop, drop_points, text))
    return found


def _drop(
    teacher: StageRow | None, student: StageRow | None
) -> tuple[float, tuple[float, float]] | None:
    """Points of top-1 below the teacher with their 95 % interval, None without a teacher."""
    if teacher is None or student is None:
        return None
    low, high = intervals.difference(
        student.top1, student.top1_ci95, teacher.top1, teacher.top1_ci95
    )
    return 100 * (teacher.top1 - student.top1), (100 * low, 100 * high)
