"""A comparison (schema edgekd.comparison/1) as one HTML page that loads nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from edgekd.core.records import present
from edgekd.reporting import charts, html_report, interval_charts
from edgekd.reporting import text as fmt
from edgekd.reporting.builds_table import state
from edgekd.reporting.comparison import LETTERS
from edgekd.reporting.comparison_figures import best, setting, told
from edgekd.reporting.comparison_record import (
    BuildRow,
    Comparison,
    Difference,
    FigureRow,
    StageComparison,
    Unit,
)

BARRED = (Unit.BYTES, Unit.MS, Unit.KIB, Unit.COUNT)  # units that are drawn as bars from zero


@dataclasses.dataclass(frozen=True)
class BuildView:
    """One build, with its letter and the CSS class of its colour. `state`: (CSS class, words)."""

    letter: str
    style: str
    build: BuildRow
    state: tuple[str, str]


@dataclasses.dataclass(frozen=True)
class FigureCell:
    """One build's figure. `bar`: SVG or ""."""

    text: str
    best: bool
    bar: str


@dataclasses.dataclass(frozen=True)
class FigureLine:
    """One row of key figures."""

    name: str
    cells: list[FigureCell]


@dataclasses.dataclass(frozen=True)
class ChangeLine:
    """A build's change against the first build. `chance`: whether the interval covers zero."""

    letter: str
    what: str
    value: str
    interval: str
    chance: bool


@dataclasses.dataclass(frozen=True)
class StageCell:
    """One build's figures after a stage."""

    top1: str
    bound: str
    auc: str


@dataclasses.dataclass(frozen=True)
class StageLine:
    """One stage; None for a build that does not have it."""

    stage: str
    cells: list[StageCell | None]


@dataclasses.dataclass(frozen=True)
class OpCell:
    """How many operators of a kind one file has. `away`: whether any does not map."""

    count: int
    away: bool
    bar: str


@dataclasses.dataclass(frozen=True)
class OpLine:
    """One kind of operator."""

    op: str
    cells: list[OpCell]


@dataclasses.dataclass(frozen=True)
class SettingLine:
    """One setting in which the builds differ."""

    key: str
    cells: list[str]


def page(comparison: Comparison) -> str:
    """The comparison as HTML."""
    builds = [
        BuildView(letter, f"m{number % interval_charts.STYLES}", build, state(build))
        for number, (letter, build) in enumerate(zip(LETTERS, comparison.builds, strict=False))
    ]
    return html_report.render(
        "comparison.html",
        {
            "builds": builds,
            "same_data": comparison.same_data,
            "skipped": present(comparison.skipped) or [],
            "synthetic": [view.letter for view in builds if view.build.synthetic],
            "figures": [_figure(row) for row in comparison.figures],
            "changes": list(_changes(comparison)),
            "chart": _chart(comparison.waterfall),
            "waterfall": [_stage(row) for row in comparison.waterfall],
            "ops": _ops(comparison),
            "settings": [
                SettingLine(row.key, [setting(value) for value in row.values])
                for row in comparison.settings
            ],
        },
    )


def _figure(row: FigureRow) -> FigureLine:
    most = max((value for value in row.values if isinstance(value, int | float)), default=0)
    barred = row.unit in BARRED and most > 0
    return FigureLine(
        row.name,
        [
            FigureCell(
                told(value, row.unit),
                chosen,
                charts.bar(value / most) if barred and isinstance(value, int | float) else "",
            )
            for value, chosen in zip(row.values, best(row), strict=True)
        ],
    )


def _changes(comparison: Comparison) -> Iterator[ChangeLine]:
    """How far each build's last network is from the first build's."""
    for letter, change in zip(LETTERS, comparison.changes, strict=False):
        if change is None:
            continue
        for what, form, unit, found in (
            ("top-1", fmt.points, " points", change.top1),
            ("AUC", _signed, "", change.auc),
        ):
            if found is not None:
                yield _change(letter, what, found, form, unit)


def _change(
    letter: str, what: str, found: Difference, form: Callable[[float], str], unit: str
) -> ChangeLine:
    low, high = found.ci95
    return ChangeLine(
        letter=letter,
        what=what,
        value=form(found.value) + unit,
        interval=f"{form(low)} to {form(high)}",
        chance=low <= 0 <= high,
    )


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _chart(waterfall: list[StageComparison]) -> str:
    groups = [
        (
            fmt.STAGES.get(row.stage, row.stage),
            [
                None
                if found is None
                else interval_charts.Interval(letter, found.top1, *found.top1_ci95)
                for letter, found in zip(LETTERS, row.rows, strict=False)
            ],
        )
        for row in waterfall
    ]
    words = "; ".join(
        f"{stage}: " + ", ".join(f"{row.name} {fmt.percent(row.value)}" for row in rows if row)
        for stage, rows in groups
    )
    return interval_charts.grouped(
        groups, f"Top-1 accuracy after each stage, with 95 % intervals. {words}"
    )


def _stage(row: StageComparison) -> StageLine:
    return StageLine(
        fmt.STAGES.get(row.stage, row.stage),
        [
            None
            if found is None
            else StageCell(
                told(found.top1, Unit.SHARE),
                " to ".join(f"{100 * x:.1f}" for x in found.top1_ci95),
                told(found.auc, Unit.NUMBER),
            )
            for found in row.rows
        ],
    )


def _ops(comparison: Comparison) -> list[OpLine]:
    most = max((count for row in comparison.ops for count in row.counts), default=0) or 1
    return [
        OpLine(
            row.op,
            [
                OpCell(count, bool(count) and not mapped, charts.bar(count / most))
                for count, mapped in zip(row.counts, row.mapped, strict=True)
            ],
        )
        for row in comparison.ops
    ]
