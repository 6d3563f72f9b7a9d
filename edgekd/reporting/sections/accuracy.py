"""The section "Accuracy, stage by stage": each network, what changed, and which images flipped."""

from __future__ import annotations

import dataclasses

from edgekd.core.records import UnsetType, present
from edgekd.evaluation.accuracy_record import (
    Accuracy,
    DeviceRow,
    FlippedImage,
    LabelFigures,
    Metric,
    Paired,
    StageRow,
    StageState,
    Verdict,
    VerdictState,
)
from edgekd.reporting import interval_charts
from edgekd.reporting import text as fmt
from edgekd.reporting.report_record import Report

# Flipped images named on the page, each way and stage. report.json names more.
NAMED = 30
STYLES = {StageState.WITHIN: "good", StageState.UNCLEAR: "warn", StageState.BEYOND: "bad"}
BUDGETS = {
    StageState.WITHIN: "within budget",
    StageState.UNCLEAR: "over budget, maybe by chance",
    StageState.BEYOND: "over budget",
}
VERDICT_STYLES = {
    VerdictState.GOOD: "good",
    VerdictState.UNCLEAR: "warn",
    VerdictState.BAD: "bad",
}


@dataclasses.dataclass(frozen=True)
class StageLine:
    """One row of the accuracy table. `style`: the CSS class of `judged`."""

    name: str
    top1: str
    top1_bound: str
    auc: str
    auc_bound: str
    change: str
    change_bound: str
    auc_change: str
    auc_change_bound: str
    agree: str
    lost: str
    won: str
    judged: str
    style: str


@dataclasses.dataclass(frozen=True)
class FlippedLine:
    """One image that changed between right and wrong."""

    name: str
    was: str
    now: str
    margin: str


@dataclasses.dataclass(frozen=True)
class FlippedWay:
    """The images that a stage lost, or gained: all of them counted, the first ones named."""

    word: str
    style: str
    count: str
    shown: list[FlippedLine]
    more: int


@dataclasses.dataclass(frozen=True)
class FlippedStage:
    """The images that one stage flipped."""

    stage: str
    ways: list[FlippedWay]


@dataclasses.dataclass(frozen=True)
class LabelLine:
    """One label of several, in the last stage."""

    name: str
    positives: str
    auc: str
    bound: str
    sensitivity: str
    specificity: str


@dataclasses.dataclass(frozen=True)
class DeviceLine:
    """What came back from the device itself."""

    n: str
    top1: str
    top1_bound: str
    text: str
    style: str
    judged: str
    emulated: bool


@dataclasses.dataclass(frozen=True)
class AccuracyView:
    """The whole section. `chart` and `changes` are SVG; `aucs`: whether any network has an AUC.

    `agreement`: the images have no labels, and the float network's answers stand for them.
    `further`: a line for each output of the file beside its answers.
    """

    n: str
    split: str
    metric: str
    agreement: bool
    table: list[StageLine]
    aucs: bool
    chart: str
    changes: str
    flipped: list[FlippedStage]
    labels: list[LabelLine]
    device: DeviceLine | None
    verdict: Verdict | None
    verdict_style: str
    paired: Paired | None
    further: list[str]


def accuracy(report: Report) -> AccuracyView | None:
    """The waterfall as a table and charts, or None where nothing was evaluated."""
    block = present(report.accuracy)
    if block is None or not block.waterfall:
        return None
    metric = fmt.metric(block)
    verdict = present(block.verdict)
    device = present(block.device)
    return AccuracyView(
        n=fmt.whole(block.n),
        split=block.split,
        metric=metric,
        agreement=block.metric is Metric.AGREEMENT,
        table=[_line(row) for row in block.waterfall],
        aucs=any(row.auc is not None for row in block.waterfall),
        chart=_chart(block, metric),
        changes=_changes(block, metric),
        flipped=_flipped_stages(block),
        labels=_labels(report.data.classes, block.waterfall[-1]),
        device=None if device is None else _device(device),
        verdict=verdict,
        verdict_style="" if verdict is None else VERDICT_STYLES[verdict.state],
        paired=present(block.paired),
        further=[fmt.further(row) for row in present(block.further_outputs) or []],
    )


def _line(row: StageRow) -> StageLine:
    first = row.agree_with_previous is None
    change, state = present(row.change), present(row.state)
    return StageLine(
        name=fmt.STAGES.get(row.stage, row.stage),
        top1=fmt.percent(row.top1),
        top1_bound=fmt.bound(row.top1_ci95, fmt.percent),
        auc=fmt.number(row.auc),
        auc_bound=fmt.bound(row.auc_ci95, fmt.number),
        change="" if change is None else fmt.points(change.top1),
        change_bound="" if change is None else fmt.between(change.top1_ci95),
        auc_change="" if change is None else fmt.signed(change.auc),
        auc_change_bound=""
        if change is None or change.auc_ci95 is None
        else " to ".join(fmt.signed(x) for x in change.auc_ci95),
        agree="" if first else fmt.percent(row.agree_with_previous),
        lost="" if first else fmt.whole(row.flips_bad),
        won="" if first else fmt.whole(row.flips_good),
        judged="" if state is None else BUDGETS.get(state, ""),
        style="" if state is None else STYLES.get(state, ""),
    )


def _chart(block: Accuracy, metric: str) -> str:
    """Each network's accuracy with its interval."""
    rows = [
        interval_charts.Interval(
            fmt.STAGES.get(row.stage, row.stage),
            row.top1,
            *row.top1_ci95,
            ""
            if row.agree_with_previous is None
            else f"{fmt.whole(row.flips_bad)} lost, {fmt.whole(row.flips_good)} gained",
        )
        for row in block.waterfall
    ]
    told = "; ".join(f"{row.name} {row.value:.1%}, {row.low:.1%} to {row.high:.1%}" for row in rows)
    return interval_charts.intervals(
        rows,
        f"{metric.capitalize()} on the test images after each stage, with 95 % intervals: {told}",
    )


def _changes(block: Accuracy, metric: str) -> str:
    """Each stage's change with its interval and its budget."""
    rows = []
    for row in block.waterfall:
        change, budget, state = present(row.change), present(row.budget), present(row.state)
        if change is None or state is None:
            continue
        rows.append(
            interval_charts.Change(
                fmt.STAGES.get(row.stage, row.stage),
                change.top1,
                *change.top1_ci95,
                None if budget is None else budget.top1,
                BUDGETS.get(state, ""),
                state.value,
            )
        )
    told = "; ".join(
        f"{row.name} {fmt.points(row.value)}, {fmt.points(row.low)} to "
        f"{fmt.points(row.high)}, {row.note}"
        for row in rows
    )
    return interval_charts.changes(
        rows,
        f"Change of {metric} against the stage before, in points, with 95 % intervals: {told}",
    )


def _flipped_stages(block: Accuracy) -> list[FlippedStage]:
    """The images that each stage flipped, for stages that flipped any."""
    found = []
    for row in block.waterfall:
        flipped = present(row.flipped)
        if flipped is None or not (flipped.bad or flipped.good):
            continue
        ways = [
            _way("lost", "bad", row.flips_bad, flipped.bad),
            _way("gained", "good", row.flips_good, flipped.good),
        ]
        found.append(FlippedStage(fmt.STAGES.get(row.stage, row.stage), ways))
    return found


def _way(word: str, style: str, count: int, images: list[FlippedImage]) -> FlippedWay:
    shown = [
        FlippedLine(
            image.name,
            image.was,
            image.now,
            fmt.NONE if image.margin_lsb is None else f"{image.margin_lsb:.1f}",
        )
        for image in images[:NAMED]
    ]
    return FlippedWay(word, style, fmt.whole(count), shown, max(0, count - len(shown)))


def _labels(classes: list[str], last: StageRow) -> list[LabelLine]:
    """Each of several labels in the last stage, given where its probability is at least a half."""
    rows: list[LabelFigures] = [] if isinstance(last.per_label, UnsetType) else last.per_label
    return [
        LabelLine(
            name=name,
            positives=fmt.whole(row.positives),
            auc=fmt.number(row.auc),
            bound=fmt.bound(row.auc_ci95, fmt.number),
            sensitivity=fmt.percent(row.sensitivity),
            specificity=fmt.percent(row.specificity),
        )
        for name, row in zip(classes, rows, strict=False)
    ]


def _device(row: DeviceRow) -> DeviceLine:
    return DeviceLine(
        n=fmt.whole(row.n),
        top1=fmt.percent(row.top1),
        top1_bound=fmt.bound(row.top1_ci95, fmt.percent),
        text=row.verdict,
        style=STYLES.get(row.state, ""),
        judged=BUDGETS.get(row.state, ""),
        emulated=row.emulated,
    )
