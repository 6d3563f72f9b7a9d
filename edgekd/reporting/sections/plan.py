"""What was planned for the time of a build, and what came of it: in the section on training."""

from __future__ import annotations

import dataclasses

from edgekd.core.records import present
from edgekd.pipeline.plan_record import PlanRow
from edgekd.reporting import text as fmt
from edgekd.reporting.report_record import Report
from edgekd.settings.preset_record import spoken


@dataclasses.dataclass(frozen=True)
class PlanLine:
    """A part of the build, with its times as text."""

    stage: str
    what: str
    planned: str
    taken: str


@dataclasses.dataclass(frozen=True)
class PlanView:
    """The plan: in words, its parts, the settings that it chose, and what was changed later."""

    words: str
    rows: list[PlanLine]
    settings: list[tuple[str, str]]
    reasons: list[str]
    corrections: list[str]


def plan(report: Report) -> PlanView | None:
    """The plan of the build; None where no time was asked for."""
    block = present(report.plan)
    if block is None:
        return None
    seconds = present(block.seconds)
    took = "" if seconds is None else f", and the command took {fmt.seconds(seconds)}"
    return PlanView(
        f"Planned for {block.minutes:g} minutes{took}",
        [_line(row) for row in block.rows],
        [(key, spoken(value)) for key, value in block.settings.items()],
        block.reasons,
        block.corrections,
    )


def _line(row: PlanRow) -> PlanLine:
    taken = present(row.seconds)
    return PlanLine(
        row.stage,
        row.what,
        fmt.seconds(row.planned_seconds),
        fmt.NONE if taken is None else fmt.seconds(taken),
    )
