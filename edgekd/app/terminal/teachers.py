"""What each step gained the teachers, on the terminal."""

from __future__ import annotations

import rich.box
import rich.table

from edgekd.app.terminal.text import Say, safe
from edgekd.core.records import present
from edgekd.reporting.network_record import NetworkBlock
from edgekd.reporting.report_record import Report
from edgekd.reporting.text import number


def show_teachers(say: Say, report: Report) -> None:
    """A table for each teacher that was made or asked in several ways."""
    for role, network in report.models.items():
        if len(present(network.steps) or []) > 1:
            say(_table(role, network))


def _table(role: str, network: NetworkBlock) -> rich.table.Table:
    judged = (present(network.metrics) or {}).get("val")
    images = "the validation images" if judged is None else f"{judged.n} validation images"
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD,
        title=f"{safe(role)} on {images}",
        title_justify="left",
    )
    for name in ("step", "top-1", "AUC", "taken"):
        table.add_column(name, justify="left" if name == "step" else "right")
    for step in present(network.steps) or []:
        area = present(step.auc)
        table.add_row(
            safe(step.step),
            f"{step.top1:.1%}",
            "" if area is None else number(area),
            "yes" if step.kept else "",
        )
    return table
