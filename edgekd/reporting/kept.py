"""The first sentence of a report: how much of its teacher's accuracy the int8 student keeps."""

from __future__ import annotations

import dataclasses

from edgekd.core.records import present
from edgekd.evaluation.accuracy_record import Accuracy, StageRow, StageState
from edgekd.evaluation.stage_verdicts import SLACK, WORDS, top1_fell
from edgekd.reporting.text import number, percent

# What is added where the student keeps less than the stages' budgets allow together.
_ADDED = {
    StageState.UNCLEAR: "; that may be over the budget of {allowed} points",
    StageState.BEYOND: "; that is over the budget of {allowed} points",
}


@dataclasses.dataclass(frozen=True)
class Kept:
    """The sentence, and how the loss compares with what all stages together may lose."""

    text: str
    state: StageState


def of_teacher(accuracy: Accuracy) -> Kept | None:
    """How much the int8 student keeps; None for a build without a teacher or without a .tflite."""
    teacher, student = accuracy.row("teacher"), accuracy.row("tflite")
    if teacher is None or student is None:
        return None
    what, state = WORDS[accuracy.metric], _state(accuracy, teacher, student)
    figures = f"{percent(student.top1)} against {percent(teacher.top1)}"
    if student.auc is not None and teacher.auc is not None:
        figures += f", AUC {number(student.auc)} against {number(teacher.auc)}"
    if student.top1 > teacher.top1:
        text = f"The int8 student surpasses its teacher in {what} ({figures})"
    elif student.top1 == teacher.top1:
        text = f"The int8 student keeps all of its teacher's {what} ({figures})"
    else:
        only = "only " if state is StageState.BEYOND else ""
        share = percent(student.top1 / teacher.top1)
        text = f"The int8 student keeps {only}{share} of its teacher's {what} ({figures})"
    allowed = f"{100 * _allowed(accuracy):.1f}".removesuffix(".0")
    return Kept(f"{text}{_ADDED.get(state, '').format(allowed=allowed)}.", state)


def _state(accuracy: Accuracy, teacher: StageRow, student: StageRow) -> StageState:
    """Whether the student loses more than all stages together may, and whether by chance.

    Reports of earlier versions do not say what chance explains; the loss itself decides there.
    """
    if teacher.top1 - student.top1 <= _allowed(accuracy) + SLACK:
        return StageState.WITHIN
    change = present(accuracy.against_teacher)
    return StageState.BEYOND if change is None or top1_fell(change) else StageState.UNCLEAR


def _allowed(accuracy: Accuracy) -> float:
    """The share of the answers that all stages together may lose."""
    budgets = [present(row.budget) for row in accuracy.waterfall]
    return sum(budget.top1 for budget in budgets if budget is not None)
