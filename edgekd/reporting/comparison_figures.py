"""The figures of a comparison: how a report states each, which is better, and how it is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from edgekd.core.records import present
from edgekd.device.bench_record import Bench
from edgekd.evaluation.accuracy_record import StageRow
from edgekd.evaluation.confidence_record import ClassConfidence, ClassTest
from edgekd.reporting.comparison_record import Better, FigureRow, Setting, Unit, Value
from edgekd.reporting.network_record import NetworkBlock
from edgekd.reporting.report_record import DeviceBlock, Report
from edgekd.reporting.text import percent, plural, points


@dataclasses.dataclass(frozen=True)
class Figure:
    """One row of the comparison: how a report states it, and which way is better."""

    name: str
    unit: Unit
    better: Better
    read: Callable[[Report], Value]


def last_stage(report: Report) -> StageRow | None:
    """The row of the last stage that was evaluated."""
    accuracy = present(report.accuracy)
    return accuracy.waterfall[-1] if accuracy is not None and accuracy.waterfall else None


def _certificate(report: Report) -> Value:
    certificate = present(report.certificate)
    if certificate is None:
        return None
    return "passed" if certificate.passed else "failed"


def _top1(report: Report) -> Value:
    row = last_stage(report)
    return None if row is None else row.top1


def _auc(report: Report) -> Value:
    row = last_stage(report)
    return None if row is None else row.auc


def _lost(report: Report) -> Value:
    """The change of top-1 from the float student to the file."""
    accuracy = present(report.accuracy)
    if accuracy is None:
        return None
    student, file = accuracy.row("student"), accuracy.row("tflite")
    return None if student is None or file is None else file.top1 - student.top1


def _of_confidence(read: Callable[[ClassTest], float]) -> Callable[[Report], Value]:
    def found(report: Report) -> Value:
        block = present(report.confidence)
        return read(block.test) if isinstance(block, ClassConfidence) else None

    return found


def _bytes(report: Report) -> Value:
    artifact = present(report.artifact)
    return None if artifact is None else artifact.bytes


def _of_served(read: Callable[[NetworkBlock], int]) -> Callable[[Report], Value]:
    """A figure of the network that the file holds."""

    def found(report: Report) -> Value:
        network = report.models.get("pruned") or report.models.get("student")
        return None if network is None else read(network)

    return found


def _of_device(read: Callable[[DeviceBlock], Value]) -> Callable[[Report], Value]:
    def found(report: Report) -> Value:
        device = present(report.device)
        return None if device is None else read(device)

    return found


FIGURES = (
    Figure("certificate", Unit.TEXT, Better.NEITHER, _certificate),
    Figure("top-1", Unit.SHARE, Better.MORE, _top1),
    Figure("AUC", Unit.NUMBER, Better.MORE, _auc),
    Figure("top-1, float student to int8", Unit.POINTS, Better.NEITHER, _lost),
    Figure(
        "calibration error",
        Unit.NUMBER,
        Better.LESS,
        _of_confidence(lambda test: test.ece.after),
    ),
    Figure("says “unsure”", Unit.SHARE, Better.LESS, _of_confidence(lambda test: test.unsure)),
    Figure(
        "label in its set",
        Unit.SHARE,
        Better.NEITHER,
        _of_confidence(lambda test: test.coverage),
    ),
    Figure("file", Unit.BYTES, Better.LESS, _bytes),
    Figure(
        "arena",
        Unit.BYTES,
        Better.LESS,
        _of_device(lambda device: device.memory.arena_bytes),
    ),
    Figure("multiply-adds", Unit.COUNT, Better.LESS, _of_served(lambda network: network.macs)),
    Figure("parameters", Unit.COUNT, Better.LESS, _of_served(lambda network: network.params)),
    Figure(
        "ops not mapped",
        Unit.COUNT,
        Better.LESS,
        _of_device(lambda device: device.mapped.ops - device.mapped.mapped),
    ),
    Figure(
        "predicted latency",
        Unit.MS,
        Better.LESS,
        _of_device(lambda device: device.predicted.latency_ms),
    ),
)


def figure_rows(reports: Sequence[Report]) -> list[FigureRow]:
    """Every figure that at least one report states."""
    rows = [
        FigureRow(
            figure.name, figure.unit, figure.better, [figure.read(report) for report in reports]
        )
        for figure in FIGURES
    ]
    rows += measured_rows(reports)
    return [row for row in rows if any(value is not None for value in row.values)]


def measured_rows(reports: Sequence[Report]) -> list[FigureRow]:
    """Median latency and peak memory of the newest run at each place.

    Builds that ran at the same place share a row. Emulated runs have no times.
    """
    found: dict[str, list[Bench | None]] = {}
    for number, report in enumerate(reports):
        for run in present(report.bench) or []:
            if not run.emulated:
                found.setdefault(_place(run), [None] * len(reports))[number] = run
    rows = []
    for place, runs in found.items():
        latencies: list[Value] = [None if run is None else run.latency_ms.p50 for run in runs]
        peaks: list[Value] = [None if run is None else run.memory_kib.peak for run in runs]
        rows += [
            FigureRow(f"median latency ({place})", Unit.MS, Better.LESS, latencies),
            FigureRow(f"peak memory ({place})", Unit.KIB, Better.LESS, peaks),
        ]
    return rows


def _place(run: Bench) -> str:
    """Where a run was made: profile, processor and threads."""
    cpu = run.host.cpu or run.host.machine or "an unnamed processor"
    return f"{run.profile}, {cpu}, {plural(run.runtime.threads, 'thread')}"


def told(value: Value, unit: Unit) -> str:
    """A figure for a person; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if unit == Unit.SHARE:
        return percent(value)
    if unit == Unit.POINTS:
        return points(value)
    if unit in (Unit.BYTES, Unit.KIB):
        kib = value / 1024 if unit == Unit.BYTES else value
        return f"{kib:,.0f} KiB" if kib < 10 * 1024 else f"{kib / 1024:,.1f} MiB"
    if unit == Unit.MS:
        return f"{value:.3g} ms"
    return f"{value:,}" if unit == Unit.COUNT else f"{value:.3f}"


def setting(value: Setting) -> str:
    """A recipe's value for a person; a dash for None."""
    return "–" if value is None else "(empty)" if value == "" else str(value)


def best(row: FigureRow) -> list[bool]:
    """Which builds have the best figure of a row, as printed.

    None has where all figures read the same, or where neither way is better.
    """
    known = [value for value in row.values if isinstance(value, int | float)]
    texts = [told(value, row.unit) for value in row.values]
    if row.better == Better.NEITHER or len({told(value, row.unit) for value in known}) < 2:
        return [False] * len(texts)
    top = told(max(known) if row.better == Better.MORE else min(known), row.unit)
    return [text == top for text in texts]
