"""The section on groups: accuracy in each group of a manifest's column, and what int8 changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from edgekd.core.records import present
from edgekd.evaluation.subgroup_record import (
    Group,
    GroupChange,
    GroupFailure,
    GroupMetric,
    Subgroups,
)
from edgekd.reporting import interval_charts
from edgekd.reporting import text as fmt
from edgekd.reporting.report_record import Report

LISTED = 20  # groups shown one by one; the rest is only counted
NETWORKS = {"teacher": "Teacher", "student": "Student", "tflite": "int8"}
METRICS = {GroupMetric.AUC: "AUC", GroupMetric.TOP1: "top-1"}


@dataclasses.dataclass(frozen=True)
class ChangeCell:
    """A group's change from an earlier network to int8."""

    value: str
    interval: str


@dataclasses.dataclass(frozen=True)
class GroupLine:
    """One row of the table."""

    group: str
    n: str
    judged: bool
    failures: list[str]
    figures: list[str]
    changes: list[ChangeCell]


@dataclasses.dataclass(frozen=True)
class GroupChart:
    """The changes of all groups from one network to int8, as SVG."""

    before: str
    chart: str


@dataclasses.dataclass(frozen=True)
class GroupsView:
    """The whole section. `more`: groups that are not shown."""

    column: str
    metric: str
    budget: str
    networks: list[str]
    befores: list[str]
    rows: list[GroupLine]
    more: int
    charts: list[GroupChart]


@dataclasses.dataclass(frozen=True)
class _Before:
    """A network that int8 is compared with: its stage, its name here, and a group's change."""

    stage: str
    name: str
    change: Callable[[Group], GroupChange | None]


STUDENT = _Before("student", "float student", lambda row: row.change)
TEACHER = _Before("teacher", "teacher", lambda row: row.change_from_teacher)


def groups(report: Report) -> GroupsView | None:
    """The groups as a table and charts, or None where the build has none."""
    block = present(report.subgroups)
    if block is None or not block.groups:
        return None
    networks = [name for name in NETWORKS if name in block.groups[0].networks]
    befores = [STUDENT, TEACHER] if "teacher" in networks else [STUDENT]
    return GroupsView(
        column=block.column,
        metric=METRICS[block.metric],
        budget=f"{block.budget:.3f}",
        networks=[NETWORKS[name] for name in networks],
        befores=[before.name for before in befores],
        rows=[_line(row, networks, befores) for row in block.groups[:LISTED]],
        more=max(len(block.groups) - LISTED, 0),
        charts=[GroupChart(before.name, _chart(block, before)) for before in befores],
    )


def _line(row: Group, networks: list[str], befores: list[_Before]) -> GroupLine:
    return GroupLine(
        group=row.group,
        n=fmt.whole(row.n),
        judged=row.judged,
        failures=[_failure(failure) for failure in row.failures],
        figures=[fmt.number(row.networks[name]) for name in networks],
        changes=[_cell(before.change(row)) for before in befores],
    )


def _cell(change: GroupChange | None) -> ChangeCell:
    if change is None or change.ci95 is None:
        return ChangeCell(fmt.NONE, fmt.NONE)
    low, high = change.ci95
    return ChangeCell(fmt.signed(change.value), f"{fmt.signed(low)} to {fmt.signed(high)}")


def _failure(failure: GroupFailure) -> str:
    """How much a group lost beyond the budget, and where."""
    return (
        f"{METRICS[failure.metric]} {fmt.signed(failure.value)} from {failure.before}, most in "
        f"{failure.step.stage}"
    )


def _chart(block: Subgroups, before: _Before) -> str:
    """Each group's change from one network to int8."""
    rows = []
    for row in block.groups[:LISTED]:
        change = before.change(row)
        if change is None or change.value is None or change.ci95 is None:
            continue
        failed = any(failure.before == before.stage for failure in row.failures)
        rows.append(
            interval_charts.Change(
                row.group,
                change.value,
                *change.ci95,
                block.budget,
                f"{row.n} images" + ("" if row.judged else ", too few to judge"),
                "beyond" if failed else "within",
            )
        )
    told = "; ".join(
        f"{row.name} {fmt.points(row.value)}, {fmt.points(row.low)} to {fmt.points(row.high)}"
        for row in rows
    )
    metric = METRICS[block.metric]
    return interval_charts.changes(
        rows,
        f"Change of {metric} from {before.name} to int8 by group, with 95 % intervals: {told}",
    )
