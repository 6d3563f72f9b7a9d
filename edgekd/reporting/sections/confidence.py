"""The section on confidence: when the model says "unsure", or the threshold of each label."""

from __future__ import annotations

import dataclasses

from edgekd.core.records import present
from edgekd.evaluation.confidence_record import (
    ClassConfidence,
    ClassTest,
    LabelConfidence,
    ReliabilityBin,
)
from edgekd.reporting import text as fmt
from edgekd.reporting.report_record import Report

LISTED = 20  # classes shown one by one; the rest is only counted
PLOT = 100.0  # side of the reliability plot, in its own units


@dataclasses.dataclass(frozen=True)
class LabelLine:
    """One label's threshold, and what it is worth on the test images."""

    name: str
    threshold: str
    sensitivity: str
    sensitivity_bound: str
    specificity: str
    specificity_bound: str
    ece: str


@dataclasses.dataclass(frozen=True)
class LabelsView:
    """The section for images that may have several labels."""

    fitted: str
    n: str
    labels: list[LabelLine]


@dataclasses.dataclass(frozen=True)
class ClassLine:
    """One class's threshold, and how often its label is in the prediction set."""

    label: str
    threshold: str
    n: str
    coverage: str


@dataclasses.dataclass(frozen=True)
class Bar:
    """One bin of a reliability plot, in a square of PLOT units with y downwards."""

    x: float
    y: float
    width: float
    height: float
    told: str


@dataclasses.dataclass(frozen=True)
class Plot:
    """A reliability plot."""

    name: str
    bars: list[Bar]


@dataclasses.dataclass(frozen=True)
class ConfidenceView:
    """The section for images of one class each. `more`: classes that are not shown."""

    facts: list[tuple[str, str]]
    warning: str | None
    classes: list[ClassLine]
    more: int
    promised: str
    plots: list[Plot]


def labels(report: Report) -> LabelsView | None:
    """The thresholds of labels, or None where each image has one class or nothing was fitted."""
    block = present(report.confidence)
    if not isinstance(block, LabelConfidence):
        return None
    rows = [
        LabelLine(
            name=row.label,
            threshold=f"{fitted.threshold:.3f}",
            sensitivity=fmt.percent(row.sensitivity),
            sensitivity_bound=fmt.bound(row.sensitivity_ci95, fmt.percent),
            specificity=fmt.percent(row.specificity),
            specificity_bound=fmt.bound(row.specificity_ci95, fmt.percent),
            ece=f"{row.ece.before:.3f} → {row.ece.after:.3f} ({row.ece.floor:.3f})",
        )
        for fitted, row in zip(block.per_label, block.test.per_label, strict=True)
    ]
    return LabelsView(f"{block.fitted_on.n} validation images", fmt.whole(block.test.n), rows)


def confidence(report: Report) -> ConfidenceView | None:
    """Temperature and prediction sets, or None where an image may have several labels."""
    block = present(report.confidence)
    if not isinstance(block, ClassConfidence):
        return None
    rows = [
        ClassLine(
            label=label,
            threshold=f"{threshold:.4f}",
            n=fmt.whole(row.n),
            coverage=fmt.percent(row.coverage),
        )
        for label, threshold, row in zip(
            report.data.classes, block.thresholds, block.test.coverage_by_class, strict=False
        )
    ]
    plots = block.test.reliability
    return ConfidenceView(
        facts=_facts(block, block.test),
        warning=present(block.warning),
        classes=rows[:LISTED],
        more=max(len(rows) - LISTED, 0),
        promised=fmt.percent(block.coverage),
        plots=[Plot("Before", _bars(plots.before)), Plot("After", _bars(plots.after))],
    )


def _facts(block: ClassConfidence, test: ClassTest) -> list[tuple[str, str]]:
    low, high = test.coverage_ci95
    error = test.ece
    return [
        ("Temperature", f"{block.temperature:.3f}"),
        ("Fitted on", f"int8 answers to {block.fitted_on.n} validation images"),
        (
            "Label is in the set",
            (
                f"{fmt.percent(test.coverage)} of {test.n} test images (95% interval "
                f"{fmt.percent(low)} to {fmt.percent(high)}); promised "
                f"{fmt.percent(block.coverage)}"
            ),
        ),
        ("Says “unsure”", fmt.percent(test.unsure)),
        (
            "Right when sure",
            f"{fmt.percent(test.accuracy_when_sure)} (all images: {fmt.percent(test.accuracy)})",
        ),
        (
            "Calibration error",
            (
                f"{error.before:.3f} before, {error.after:.3f} after; a perfectly calibrated "
                f"network would show {error.floor:.3f} on so few images"
            ),
        ),
        (
            "… without the part due to chance",
            f"{error.debiased_before:.3f} before, {error.debiased_after:.3f} after",
        ),
    ]


def _bars(rows: list[ReliabilityBin]) -> list[Bar]:
    return [
        Bar(
            x=PLOT * row.low,
            y=PLOT * (1 - row.accuracy),
            width=PLOT * (row.high - row.low),
            height=PLOT * row.accuracy,
            told=f"{fmt.percent(row.share)} of the answers have a confidence of about "
            f"{fmt.percent(row.confidence)}; {fmt.percent(row.accuracy)} of them are right",
        )
        for row in rows
    ]
