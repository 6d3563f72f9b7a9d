"""The table of number formats: each file's accuracy, size and predicted latency."""

from __future__ import annotations

import dataclasses

from edgekd.core.number_formats import NumberFormat
from edgekd.core.records import present
from edgekd.evaluation.accuracy_record import FormatRow
from edgekd.reporting import text as fmt
from edgekd.reporting.report_record import DeviceBlock, Report


@dataclasses.dataclass(frozen=True)
class FormatLine:
    """One file."""

    name: str
    path: str
    top1: str
    top1_bound: str
    auc: str
    auc_bound: str
    change: str
    change_bound: str
    agree: str
    agree_bound: str
    images: str
    size: str
    ports: str
    latency: str


@dataclasses.dataclass(frozen=True)
class FormatsView:
    """The table. `failed`: (format, message) of each that could not be made. `bases`: (format, why
    its latency is predicted as it is, or is not).
    """

    metric: str
    aucs: bool
    rows: list[FormatLine]
    failed: list[tuple[str, str]]
    bases: list[tuple[str, str]]


def formats(report: Report) -> FormatsView | None:
    """The table, or None where nothing but int8 was asked for."""
    accuracy, device = present(report.accuracy), present(report.device)
    rows = None if accuracy is None else present(accuracy.formats)
    if accuracy is None or rows is None:
        return None
    latencies = [] if device is None else present(device.formats) or []
    return FormatsView(
        metric=fmt.metric(accuracy),
        aucs=any(row.auc is not None for row in rows),
        rows=[_line(row, device) for row in rows],
        failed=[
            (fmt.FORMATS[row.format], row.message) for row in present(accuracy.formats_failed) or []
        ],
        bases=[(fmt.FORMATS[row.format], row.predicted.basis) for row in latencies],
    )


def _line(row: FormatRow, device: DeviceBlock | None) -> FormatLine:
    return FormatLine(
        name=fmt.FORMATS[row.format],
        path=row.path,
        top1=fmt.percent(row.top1),
        top1_bound=fmt.bound(row.top1_ci95, fmt.percent),
        auc=fmt.number(row.auc),
        auc_bound=fmt.bound(row.auc_ci95, fmt.number),
        change=fmt.points(row.change.top1),
        change_bound=fmt.between(row.change.top1_ci95),
        agree=fmt.percent(row.agree_with_float),
        agree_bound=fmt.bound(row.agree_ci95, fmt.percent),
        images=fmt.whole(row.n),
        size=fmt.kib(row.bytes),
        ports=row.input if row.input == row.output else f"{row.input}, {row.output}",
        latency=predicted_ms(row.format, device),
    )


def predicted_ms(wanted: NumberFormat, device: DeviceBlock | None) -> str:
    """The predicted latency of a format, a dash where it is not predicted."""
    if device is None:
        return fmt.NONE
    by_format = {row.format: row.predicted for row in present(device.formats) or []}
    by_format[NumberFormat.INT8] = device.predicted
    found = by_format.get(wanted)
    if found is None or found.latency_ms is None:
        return fmt.NONE
    return f"{found.latency_ms:.3g} ms"
