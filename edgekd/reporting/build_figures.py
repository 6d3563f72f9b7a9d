"""The figures of one build in a table of many: those that its report states, with intervals."""

from __future__ import annotations

from edgekd.core.records import UNSET, UnsetType, present
from edgekd.reporting.comparison_figures import last_stage
from edgekd.reporting.comparison_record import BuildFigures, BuildLatency
from edgekd.reporting.report_record import Report


def build_figures(report: Report) -> BuildFigures:
    """The figures of the last stage that was evaluated, of the file, and of the device."""
    row, artifact, device = last_stage(report), present(report.artifact), present(report.device)
    return BuildFigures(
        stage=None if row is None else row.stage,
        top1=None if row is None else row.top1,
        top1_ci95=None if row is None else row.top1_ci95,
        auc=None if row is None else row.auc,
        auc_ci95=None if row is None else row.auc_ci95,
        latency=_latency(report),
        file_bytes=None if artifact is None else artifact.bytes,
        arena_bytes=None if device is None else device.memory.arena_bytes,
    )


def _latency(report: Report) -> BuildLatency | UnsetType:
    """The newest measurement on the build's own device, else what is predicted for it."""
    measured = [
        run.latency_ms.p50
        for run in present(report.bench) or []
        if run.profile == report.profile and not run.emulated  # emulated times are void
    ]
    if measured and measured[-1] is not None:
        return BuildLatency(measured[-1], None, None, True)
    device = present(report.device)
    if device is None or device.predicted.latency_ms is None:
        return UNSET
    predicted = device.predicted
    return BuildLatency(device.predicted.latency_ms, predicted.low_ms, predicted.high_ms, False)
