"""Judge each stage's change against its budget, and name the first stage that exceeds it.

Trained stages (student, pruned, qat) may lose what the recipe's [budget] allows. The stages onnx,
tflite and device compute the same integers as qat, so they may only round: an answer may change
where the stage before was nearly undecided, and changes must go in both directions alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edgekd.core.intervals import Interval
from edgekd.core.records import UnsetType, present
from edgekd.evaluation.accuracy_record import (
    Change,
    DeviceRow,
    Metric,
    StageBudget,
    StageRow,
    StageState,
    Verdict,
    VerdictState,
)

NAMES = {
    "teacher": "the teacher",
    "student": "the float student",
    "pruned": "pruning",
    "qat": "QAT",
    "onnx": "the ONNX export",
    "tflite": "the TFLite conversion",
    "device": "the device",
}
# What to do about a stage that is beyond its budget.
NEXT_STEPS = {
    "student": "train longer (distil.epochs), use a wider student or more pixels (data.input_px), "
    "or learn from another teacher",
    "pruned": "prune less, or train longer after pruning (prune.epochs)",
    "qat": "run `edgekd report --why` with the build's folder: it names the operators that cost "
    "most accuracy and what helps",
    "onnx": "read the certificate's failures, which name the tensor or operator; then build again "
    "from the export stage",
    "tflite": "read the certificate's failures, which name the tensor or operator; then convert "
    "again",
    "device": "compare the runtime and delegate with the build's, and the file's sha256 with the "
    "one in report.json",
}
WORDS = {
    Metric.TOP1: "top-1",
    Metric.LABEL_DECISIONS: "label decisions",
    Metric.AGREEMENT: "agreement",
}
FLIPPING = {  # what may flip
    Metric.TOP1: "images",
    Metric.LABEL_DECISIONS: "label decisions",
    Metric.AGREEMENT: "images",
}
ROUNDING = ("onnx", "tflite", "device")  # stages that may change answers by rounding alone
CHANCE = 0.05  # the complement of a 95 % interval
# Share of the images whose answer rounding may change although the margin was larger than
# [budget] rounding_lsb. The differences between two integer implementations have a tail, and of
# 10,000 images a few lie in it.
TAIL = 0.001
# A loss equal to its budget is within it, whatever float arithmetic makes of the difference.
SLACK = 1e-9


@dataclasses.dataclass(frozen=True)
class StageJudgement:
    """How one stage's change compares with its budget, and a sentence with the figures."""

    state: StageState
    text: str


def judge_stage(
    row: StageRow, change: Change, budget: StageBudget, before: str, n: int, metric: Metric
) -> StageJudgement:
    """Judge the change of one stage. `before`: the stage before; `n`: answers that could flip."""
    told = f"{_sentence(row.stage)}: {_points(change, WORDS[metric])} against {_name(before)}"
    if row.stage in ROUNDING:
        return _judge_rounding(row, change, budget, f"{n} {FLIPPING[metric]}", n, told)
    top1_over = -change.top1 > budget.top1 + SLACK
    auc_over = _auc_over(change, budget)
    area = "" if change.auc is None else f" and {budget.auc:g} of AUC"
    allowed = f"at most {budget.top1 * 100:g} points of {WORDS[metric]}{area} are allowed"
    if (top1_over and top1_fell(change)) or (auc_over and _auc_real(change)):
        return StageJudgement(StageState.BEYOND, f"{told}; {allowed}")
    if top1_over or auc_over:
        return StageJudgement(
            StageState.UNCLEAR,
            f"{told}; {allowed}, but the interval covers zero or too few images flipped: with {n} "
            f"{FLIPPING[metric]} this may be chance",
        )
    return StageJudgement(StageState.WITHIN, f"{told}; within its budget")


def _judge_rounding(
    row: StageRow, change: Change, budget: StageBudget, of: str, n: int, told: str
) -> StageJudgement:
    """Judge a stage that may only round. `of`: the number of answers, in words."""
    reasons = []
    beyond = present(row.beyond_rounding) or 0
    if beyond > TAIL * n:
        reasons.append(
            f"{beyond} of {of} changed their answer from a margin of more than "
            f"{present(budget.rounding_lsb):g} LSB, which rounding does not explain"
        )
    if change.top1 < 0 and top1_fell(change):
        reasons.append("rounding moves answers both ways alike, and these went one way")
    if _auc_over(change, budget) and _auc_real(change):
        reasons.append(f"the AUC fell by more than the {budget.auc:g} that rounding may take")
    if reasons:
        return StageJudgement(StageState.BEYOND, f"{told}; {'; '.join(reasons)}")
    flips = row.flips_bad + row.flips_good
    why = "no more than rounding explains" if flips else "no answer changed between right and wrong"
    return StageJudgement(StageState.WITHIN, f"{told}; {why}")


def top1_fell(change: Change) -> bool:
    """Whether both the interval and the sign test say that top-1 fell."""
    return change.top1_ci95[1] < 0 and change.top1_p < CHANCE


def _auc_real(change: Change) -> bool:
    return change.auc_ci95 is not None and change.auc_ci95[1] < 0


def _auc_over(change: Change, budget: StageBudget) -> bool:
    return change.auc is not None and -change.auc > budget.auc + SLACK


def verdict(rows: Sequence[StageRow | DeviceRow]) -> Verdict:
    """Name the first stage whose loss is beyond its budget, and note what else is amiss.

    A stage whose loss may be chance is named only when no other stage is beyond its budget.
    """
    beyond = [row for row in rows if row.state == StageState.BEYOND]
    unclear = [row for row in rows if row.state == StageState.UNCLEAR]
    if not beyond and not unclear:
        text = (
            "Only one network was evaluated: there is nothing to compare."
            if len(rows) == 1
            else "No stage lost more than its budget allows."
        )
        return Verdict(stage=None, state=VerdictState.GOOD, text=text, notes=[])
    first = (beyond or unclear)[0]
    figures = _told(first).partition(": ")[2]
    text = (
        f"The first stage beyond its budget is {_name(first.stage)}: {figures}."
        if beyond
        else f"{_sentence(first.stage)} may be beyond its budget, but that cannot be told from "
        f"chance: {figures}."
    )
    return Verdict(
        stage=first.stage,
        state=VerdictState.BAD if beyond else VerdictState.UNCLEAR,
        text=text,
        notes=[f"{_told(row)}." for row in [*beyond, *unclear] if row is not first],
        next_step=NEXT_STEPS.get(first.stage),
    )


def _told(row: StageRow | DeviceRow) -> str:
    return "" if isinstance(row.verdict, UnsetType) else row.verdict


def _name(stage: str) -> str:
    return NAMES.get(stage, stage)


def _sentence(stage: str) -> str:
    """A stage's name as the first words of a sentence."""
    name = _name(stage)
    return name[0].upper() + name[1:]


def _points(change: Change, metric: str) -> str:
    """The change in words, such as "lost 1.20 points of top-1 (95 % interval 0.30 to 2.10)"."""
    words = [_amount(change.top1, change.top1_ci95, 100, 2, metric)]
    if change.auc is not None and change.auc_ci95 is not None:
        words.append(_amount(change.auc, change.auc_ci95, 1, 4, "AUC"))
    return ", ".join(words)


def _amount(value: float, bounds: Interval, times: float, digits: int, of: str) -> str:
    """One figure's change with its interval, both multiplied by `times`."""
    size = f"{abs(value) * times:.{digits}f}"
    if float(size) == 0 and value == 0:
        return f"no change of {of}"
    low, high = sorted(-bound * times if value < 0 else bound * times for bound in bounds)
    covers = ", which covers zero" if low <= 0 <= high else ""
    interval = f"{low:.{digits}f} to {high:.{digits}f}".replace("-", "−")
    unit = "points " if times == 100 else ""
    return (
        f"{'lost' if value < 0 else 'gained'} {size} {unit}of {of} (95 % interval "
        f"{interval}{covers})"
    )
