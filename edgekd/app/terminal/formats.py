"""The number formats of a build on the terminal."""

from __future__ import annotations

import rich.box
import rich.table

from edgekd.app.terminal.text import Say, safe
from edgekd.core.records import present
from edgekd.evaluation.accuracy_record import Accuracy, FormatRow
from edgekd.reporting.report_record import DeviceBlock
from edgekd.reporting.sections.formats import predicted_ms
from edgekd.reporting.text import kib, metric, number

COLUMNS = ("95 %", "AUC", "as float", "95 % ", "images", "size", "predicted")


def show_formats(say: Say, accuracy: Accuracy, device: DeviceBlock | None) -> None:
    """A row for each format, and a line for each that could not be made; nothing for int8 alone."""
    rows = present(accuracy.formats)
    if rows is None:
        return
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, title="number formats", title_justify="left")
    for name in ("format", metric(accuracy), *COLUMNS):
        table.add_column(name, justify="left" if name == "format" else "right")
    for row in rows:
        table.add_row(*_cells(row, device))
    say(table)
    for failed in present(accuracy.formats_failed) or []:
        say(f"[yellow]not made[/] {safe(failed.format)}: {safe(failed.message)}")


def _cells(row: FormatRow, device: DeviceBlock | None) -> list[str]:
    return [
        row.format.value,
        f"{row.top1:.1%}",
        "–".join(f"{x * 100:.1f}" for x in row.top1_ci95),
        number(row.auc, 4),
        f"{row.agree_with_float:.1%}",
        "–".join(f"{x * 100:.1f}" for x in row.agree_ci95),
        str(row.n),
        kib(row.bytes),
        predicted_ms(row.format, device),
    ]
