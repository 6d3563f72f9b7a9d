"""The record of the plan of a build that fits into a time: in report.json, and in plan.json."""

from __future__ import annotations

from typing import Final, Literal

from edgekd.core.records import UNSET, Record, UnsetType
from edgekd.settings.presets import Value

SCHEMA: Final = "edgekd.plan/1"


class PlanRow(Record, frozen=True):
    """A part of a build. `what` it does; `planned_seconds` by the last plan before it began, and
    the `seconds` that it took.
    """

    stage: str
    what: str
    planned_seconds: float
    seconds: float | UnsetType = UNSET


class PlanBlock(Record, frozen=True, kw_only=True):
    """What was planned for `distil.minutes`, and what came of it.

    `settings`: those that the plan has chosen, by key. Given as ordinary settings, without
    distil.minutes, they repeat the build. `reasons`: why, a sentence each. `corrections`: what was
    changed while the build ran. `seconds`: of the whole command that wrote the report.
    """

    minutes: float
    settings: dict[str, Value]
    reasons: list[str]
    corrections: list[str]
    rows: list[PlanRow]
    seconds: float | UnsetType = UNSET


class PlanFile(Record, frozen=True, kw_only=True):
    """plan.json in the out folder, so that a build that was interrupted keeps its plan.

    `asked`: SHA-256 of the recipe, the profile and the data that the plan is for.
    """

    schema: Literal["edgekd.plan/1"] = SCHEMA
    asked: str
    plan: PlanBlock
