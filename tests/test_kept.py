"""The first sentence of a report: how much of its teacher's accuracy the int8 student keeps."""

from __future__ import annotations

import msgspec
import pytest

from edgekd.core.records import UNSET
from edgekd.evaluation.accuracy_record import Accuracy, Change, StageState
from edgekd.reporting import kept
from tests.sample_report import report, shown, whole

# The budgets of the sample report: four stages of 0.5 points each.
ALLOWED = 0.02


def accuracy(teacher: float, int8: float, lost_for_sure: bool = True) -> Accuracy:
    """The sample report's accuracy, with another teacher and another .tflite, without AUC."""
    found = report(whole()).accuracy
    assert isinstance(found, Accuracy)
    top1 = {"teacher": teacher, "tflite": int8}
    rows = [
        msgspec.structs.replace(row, top1=top1.get(row.stage, row.top1), auc=None)
        for row in found.waterfall
    ]
    high = -0.001 if lost_for_sure else 0.001
    change = Change(int8 - teacher, (int8 - teacher - 0.02, high), 0.001, None, None)
    return msgspec.structs.replace(found, waterfall=rows, against_teacher=change)


def said(of: Accuracy) -> tuple[str, StageState]:
    sentence = kept.of_teacher(of)
    assert sentence is not None
    return sentence.text, sentence.state


def test_it_says_what_share_the_student_keeps() -> None:
    assert said(accuracy(0.96, 0.94)) == (
        "The int8 student keeps 97.9% of its teacher's top-1 (94.0% against 96.0%).",
        StageState.WITHIN,
    )


@pytest.mark.parametrize(
    ("int8", "words"), [(0.97, "surpasses its teacher in top-1"), (0.96, "keeps all of its")]
)
def test_a_student_may_be_as_good_as_its_teacher_or_better(int8: float, words: str) -> None:
    text, state = said(accuracy(0.96, int8))
    assert words in text
    assert state is StageState.WITHIN


def test_a_loss_over_the_budget_is_called_so() -> None:
    text, state = said(accuracy(0.85, 0.517))
    assert text == (
        "The int8 student keeps only 60.8% of its teacher's top-1 (51.7% against 85.0%); that is "
        "over the budget of 2 points."
    )
    assert state is StageState.BEYOND


def test_a_loss_over_the_budget_that_may_be_chance_is_called_so() -> None:
    text, state = said(accuracy(0.96, 0.96 - ALLOWED - 0.01, lost_for_sure=False))
    assert text.endswith("; that may be over the budget of 2 points.")
    assert state is StageState.UNCLEAR


def test_a_report_of_an_earlier_version_is_judged_by_the_loss_alone() -> None:
    older = msgspec.structs.replace(accuracy(0.85, 0.517), against_teacher=UNSET)
    assert said(older)[1] is StageState.BEYOND


@pytest.mark.parametrize("missing", ["teacher", "tflite"])
def test_without_a_teacher_or_a_file_there_is_nothing_to_say(missing: str) -> None:
    found = accuracy(0.96, 0.94)
    rows = [row for row in found.waterfall if row.stage != missing]
    assert kept.of_teacher(msgspec.structs.replace(found, waterfall=rows)) is None


def test_the_page_says_it_before_the_verdicts() -> None:
    text = shown(whole()).text
    place = text.index("The int8 student keeps only 94.7% of its teacher's top-1")
    assert place < text.index("Certified")
