"""The section "In other apps": the int8 file on images that are prepared in other ways."""

from __future__ import annotations

import dataclasses

from edgekd.core.records import present
from edgekd.evaluation.accuracy_record import StageState
from edgekd.evaluation.app_inputs_record import AppInput
from edgekd.reporting import text as fmt
from edgekd.reporting.report_record import Report
from edgekd.reporting.sections.accuracy import STYLES

JUDGED = {
    StageState.WITHIN: "within",
    StageState.UNCLEAR: "maybe chance",
    StageState.BEYOND: "too much",
}


@dataclasses.dataclass(frozen=True)
class AppInputLine:
    """One way to prepare the images. `style`: the CSS class of `judged`."""

    title: str
    name: str
    top1: str
    top1_bound: str
    change: str
    change_bound: str
    agree: str
    lost: str
    won: str
    judged: str
    style: str


@dataclasses.dataclass(frozen=True)
class AppInputsView:
    """The whole section. `remedies`: (ways that cost too much, what helps)."""

    images: str
    metric: str
    top1: str
    top1_bound: str
    max_drop: str
    rows: list[AppInputLine]
    remedies: list[tuple[str, str]]
    notes: list[str]


def app_inputs(report: Report) -> AppInputsView | None:
    """The table, or None where the build has none."""
    block, accuracy = present(report.app_inputs), present(report.accuracy)
    if block is None or accuracy is None:
        return None
    return AppInputsView(
        images=f"{fmt.whole(block.n)} of the {fmt.whole(block.of)} test images"
        if block.n < block.of
        else f"the {fmt.whole(block.n)} test images",
        metric=fmt.metric(accuracy),
        top1=fmt.percent(block.top1),
        top1_bound=fmt.bound(block.top1_ci95, fmt.percent),
        max_drop="a point" if block.max_drop == 0.01 else f"{block.max_drop * 100:g} points",
        rows=[_line(row) for row in block.rows],
        remedies=[("; ".join(row.title for row in rows), told) for rows, told in block.remedies()],
        notes=block.notes,
    )


def _line(row: AppInput) -> AppInputLine:
    return AppInputLine(
        title=row.title,
        name=row.name,
        top1=fmt.percent(row.top1),
        top1_bound=fmt.bound(row.top1_ci95, fmt.percent),
        change=fmt.points(row.change.top1),
        change_bound=fmt.between(row.change.top1_ci95),
        agree=fmt.percent(row.agree),
        lost=fmt.whole(row.flips_bad),
        won=fmt.whole(row.flips_good),
        judged=JUDGED.get(row.state, ""),
        style=STYLES.get(row.state, ""),
    )
