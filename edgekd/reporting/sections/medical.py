"""The section for medical data: operating points, AUC by group of patients, calibration."""

from __future__ import annotations

import dataclasses

from edgekd.core.intervals import Interval
from edgekd.core.records import present
from edgekd.evaluation.medical_record import Finding, OperatingPoint, PatientGroups, PointRule, Rate
from edgekd.reporting import text as fmt
from edgekd.reporting.report_record import Report

LISTED = 20  # findings, and groups of a column, shown one by one; the rest is in report.json
TABLES = 3  # findings whose table of probabilities is shown


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure and its 95 % interval, "" where there is none."""

    value: str
    bound: str


@dataclasses.dataclass(frozen=True)
class PointLine:
    """One operating point. `was`: sensitivity and specificity on the validation images."""

    chosen: str
    threshold: str
    was: str
    sensitivity: Figure
    specificity: Figure
    ppv: Figure
    npv: Figure


@dataclasses.dataclass(frozen=True)
class BinLine:
    """One row of a table of probabilities."""

    range: str
    n: str
    probability: str
    observed: Figure


@dataclasses.dataclass(frozen=True)
class FindingView:
    """One finding. `bins` is empty for findings whose table is not shown."""

    name: str
    positives: str
    auc: Figure
    ece: str
    floor: str
    brier: str
    points: list[PointLine]
    bins: list[BinLine]


@dataclasses.dataclass(frozen=True)
class GroupLine:
    """One group: the AUC of each finding that is shown."""

    group: str
    n: str
    areas: list[Figure]


@dataclasses.dataclass(frozen=True)
class ColumnView:
    """The groups of one column. `more`: groups that are not shown."""

    column: str
    rows: list[GroupLine]
    more: int


@dataclasses.dataclass(frozen=True)
class MedicalView:
    """The whole section. `more`: findings that are not shown."""

    images: str
    validation: str
    shares: str
    areas: str
    findings: list[FindingView]
    more: int
    columns: list[ColumnView]
    clustered: str


def medical(report: Report) -> MedicalView | None:
    """The figures of a medical study, or None where the report has none."""
    block = present(report.medical)
    if block is None:
        return None
    patients = "" if block.patients is None else f" of {fmt.whole(block.patients)} patients"
    several = block.patients is not None and block.patients < block.n
    return MedicalView(
        images=f"{fmt.whole(block.n)} test images{patients}",
        validation=fmt.whole(block.validation_n),
        shares=block.methods.shares,
        areas=block.methods.auc,
        findings=[
            _finding(each, number < TABLES) for number, each in enumerate(block.findings[:LISTED])
        ],
        more=max(len(block.findings) - LISTED, 0),
        columns=[_column(column) for column in block.groups],
        clustered="Some patients have several test images, and the intervals take images as "
        "independent: they are somewhat too narrow."
        if several
        else "",
    )


def _finding(each: Finding, shown: bool) -> FindingView:
    told = each.calibration
    return FindingView(
        name=each.label,
        positives=f"{fmt.whole(each.positives)} of {fmt.whole(each.positives + each.negatives)}",
        auc=_area(each.auc, each.auc_ci95),
        ece=fmt.number(told.ece),
        floor=fmt.number(told.floor),
        brier=fmt.number(told.brier),
        points=[_point(point) for point in each.points],
        bins=[
            BinLine(
                f"{row.low:.0%} to {row.high:.0%}",
                fmt.whole(row.n),
                fmt.percent(row.probability),
                Figure(fmt.percent(row.observed), fmt.bound(row.observed_ci95, fmt.percent)),
            )
            for row in told.bins
        ]
        if shown
        else [],
    )


def _point(point: OperatingPoint) -> PointLine:
    return PointLine(
        chosen="Youden’s index"
        if point.rule == PointRule.YOUDEN
        else f"{point.rule} ≥ {point.target:.0%}",
        threshold=f"{point.threshold:.3f}",
        was=f"{fmt.percent(point.validation_sensitivity)}, "
        f"{fmt.percent(point.validation_specificity)}",
        sensitivity=_rate(point.sensitivity),
        specificity=_rate(point.specificity),
        ppv=_rate(point.ppv),
        npv=_rate(point.npv),
    )


def _column(block: PatientGroups) -> ColumnView:
    return ColumnView(
        column=block.column,
        rows=[
            GroupLine(
                group.group,
                fmt.whole(group.n),
                [_area(each.auc, each.ci95) for each in group.findings[:LISTED]],
            )
            for group in block.groups[:LISTED]
        ],
        more=max(len(block.groups) - LISTED, 0),
    )


def _rate(rate: Rate) -> Figure:
    return Figure(fmt.percent(rate.value), fmt.bound(rate.ci95, fmt.percent))


def _area(value: float | None, interval: Interval | None) -> Figure:
    return Figure(fmt.number(value), fmt.bound(interval, fmt.number))
