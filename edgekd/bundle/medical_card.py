"""The model card's chapter for medical data: operating points, AUC by group, calibration."""

from __future__ import annotations

from edgekd.bundle.markdown import plain
from edgekd.core.intervals import Interval
from edgekd.evaluation.medical_record import (
    Finding,
    Medical,
    OperatingPoint,
    PatientGroups,
    PointRule,
    Rate,
)

MOST_FINDINGS = 20  # in the tables; report.json has all of them
MOST_GROUPS = 12  # of one column


def lines(study: Medical) -> list[str]:
    """The chapter as lines of Markdown."""
    patients = "" if study.patients is None else f" of {study.patients} patients"
    shown = study.findings[:MOST_FINDINGS]
    told = [
        "## Operating points, groups and calibration",
        "",
        (
            f"Of the int8 file, on {study.n} test images{patients}. Thresholds were chosen on "
            f"{study.validation_n} validation images. In brackets: "
            f"{plain(study.methods.shares)}; for the AUC, {plain(study.methods.auc)}."
        ),
        "",
        "| finding | operating point | threshold | sensitivity | specificity |",
        "|---|---|---|---|---|",
        *(_point(each, point) for each in shown for point in each.points),
        "",
        "| finding | images with it | AUC | calibration error | by chance alone | Brier score |",
        "|---|---|---|---|---|---|",
        *(_finding(each) for each in shown),
    ]
    for column in study.groups:
        told += ["", *_groups(column)]
    return told


def spoken(point: OperatingPoint) -> str:
    """How an operating point was chosen, in words."""
    if point.rule == PointRule.YOUDEN:
        return "Youden's index"
    return f"{point.rule} of at least {point.target:.0%}"


def _point(each: Finding, point: OperatingPoint) -> str:
    return (
        f"| {plain(each.label)} | {spoken(point)} | {point.threshold:.3f} | "
        f"{_rate(point.sensitivity)} | {_rate(point.specificity)} |"
    )


def _finding(each: Finding) -> str:
    told = each.calibration
    return (
        f"| {plain(each.label)} | {each.positives} of {each.positives + each.negatives} | "
        f"{_area(each.auc, each.auc_ci95)} | {told.ece:.3f} | {told.floor:.3f} | "
        f"{told.brier:.3f} |"
    )


def _groups(column: PatientGroups) -> list[str]:
    return [
        f"AUC by {plain(column.column)}:",
        "",
        "| group | images | finding | images with it | AUC |",
        "|---|---|---|---|---|",
        *(
            f"| {plain(group.group)} | {group.n} | {plain(each.label)} | {each.positives} | "
            f"{_area(each.auc, each.ci95)} |"
            for group in column.groups[:MOST_GROUPS]
            for each in group.findings[:MOST_FINDINGS]
        ),
    ]


def _rate(rate: Rate) -> str:
    if rate.value is None or rate.ci95 is None:
        return "–"
    low, high = rate.ci95
    return f"{rate.value:.1%} ({low:.1%} to {high:.1%})"


def _area(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
