"""Accuracy by group: harmed groups are caught and named, harmless and small ones are not."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np

from edgekd.evaluation import conformal, subgroups
from edgekd.evaluation.confidence_record import OutputKind
from edgekd.reporting.html_report import page
from edgekd.settings.recipe import SubgroupConfig
from edgekd.tflite.int8_rules import Range
from tests.html_reader import Page
from tests.sample_report import report, whole
from tests.two_networks import evaluation


def test_unharmed_groups_pass() -> None:
    body = subgroups.report(*evaluation(), SubgroupConfig(column="age"))
    assert subgroups.gates(body) == []
    assert [row.group for row in body.groups] == ["young", "old", "unknown"]
    assert body.metric == "auc"
    assert sum(row.n for row in body.groups) == body.n == 400


def test_damage_to_one_group_is_caught_and_named() -> None:
    body = subgroups.report(
        *evaluation(damage="old", share=0.4), SubgroupConfig(column="age", max_drop=0.05)
    )
    (gate,) = subgroups.gates(body)
    assert "age = old" in gate
    row = next(row for row in body.groups if row.group == "old")
    assert row.change.ci95[1] < 0
    assert row.change.ci95[0] <= row.change.value <= row.change.ci95[1]


def test_damage_below_the_budget_passes() -> None:
    assert (
        subgroups.gates(
            subgroups.report(
                *evaluation(damage="old", share=0.4), SubgroupConfig(column="age", max_drop=0.9)
            )
        )
        == []
    )


def test_small_groups_are_shown_and_not_judged() -> None:
    made, groups = evaluation()
    groups[:5] = ["rare"] * 5
    logits = np.frombuffer(made.logits, np.float32).reshape(2, 400, 2).copy()
    logits[1, :5] = logits[1, :5, ::-1]
    body = subgroups.report(
        dataclasses.replace(made, logits=logits.tobytes()), groups, SubgroupConfig(column="x")
    )
    row = next(row for row in body.groups if row.group == "rare")
    assert row.judged is False
    assert subgroups.gates(body) == []


def test_a_group_without_both_classes_uses_top1() -> None:
    """As NORMAL / bacteria / virus in the X-rays' subtype column: no AUC inside a group."""
    made, _ = evaluation()
    body = subgroups.report(
        made, [f"class {label}" for label in made.labels], SubgroupConfig(column="subtype")
    )
    assert body.metric == "top1"


def test_answers_moved_behind_a_kept_order_are_caught() -> None:
    """A group whose logits are shifted keeps its AUC and loses top-1: the gate looks at both."""
    made, groups = evaluation()
    logits = np.frombuffer(made.logits, np.float32).reshape(2, 400, 2).copy()
    logits[1, [group == "old" for group in groups], 0] += 2.5
    body = subgroups.report(
        dataclasses.replace(made, logits=logits.tobytes()), groups, SubgroupConfig(column="age")
    )
    (gate,) = subgroups.gates(body)
    assert "age = old" in gate
    assert "of top-1 from student to int8" in gate
    assert body.judged_by == ["auc", "top1"]
    assert body.metric == "top1"


def test_a_teacher_takes_part() -> None:
    made, groups = evaluation(damage="young", share=0.3)
    logits = np.frombuffer(made.logits, np.float32).reshape(2, 400, 2)
    three = dataclasses.replace(
        made,
        stages=["teacher", "student", "tflite"],
        logits=np.stack([logits[0], logits[1], logits[1]]).tobytes(),
    )
    body = subgroups.report(three, groups, SubgroupConfig(column="age"))
    assert any("young" in gate and "from teacher" in gate for gate in subgroups.gates(body))
    assert not any("from student" in gate for gate in subgroups.gates(body))


def test_the_report_shows_the_promise_in_each_class_and_the_change_in_each_group() -> None:
    rng, grid = np.random.default_rng(0), Range(0.1, 0)
    labels = rng.integers(0, 2, 600)
    codes = rng.normal(0, 15, (600, 2))
    codes[np.arange(600), labels] += 25
    codes = codes.clip(-128, 127).astype(np.int8)
    fitted = conformal.fit(codes[:300], labels[:300], grid, OutputKind.LOGITS, 0.9)
    test = conformal.judge(fitted, codes[300:], labels[300:], grid)
    made, groups = evaluation(damage="old", share=0.4)
    found = msgspec.structs.replace(
        report(whole()),
        confidence=conformal.record(fitted, test, grid),
        subgroups=subgroups.report(made, groups, SubgroupConfig(column="age")),
    )
    read = Page(page(found))
    held = test.coverage_by_class[1]
    assert held.coverage is not None
    assert f"{held.n} {100 * held.coverage:.1f}%" in read.row(
        "pneumonia " + f"{fitted.thresholds[1]:.4f}"
    )
    assert "without the part due to chance" in read.text
    (chart,) = [
        label
        for label in read.values("svg", "aria-label")
        if " from float student to int8 by group" in label
    ]
    assert chart.count(" to ") >= 3
    assert "over budget" in read.row("old")
