"""Accuracy by group: each network's figures, what int8 changed, and the gate on it.

Groups are the values of any column of manifest.csv. A change is int8 less the student (or teacher)
on the same images, so its interval is a paired bootstrap: the group's images are drawn again, and
both networks are scored on the same draw.

A group fails when int8 loses more than the budget against the float student, or when it loses more
than the budget beyond what all images lose against the teacher. In both cases the 95 % interval
must exclude the possibility that nothing was lost (one image of 20 is already 5 %). A group is
judged by its top-1, and by its AUC where that is defined: a network whose ranges clip one group's
images may keep their order, with an AUC of 1, and answer half of them wrong. Each failure names
the step of the build in which the group lost most.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Evaluation
from edgekd.core.intervals import Interval
from edgekd.evaluation import metrics
from edgekd.evaluation.subgroup_record import (
    Group,
    GroupChange,
    GroupFailure,
    GroupMetric,
    LossStep,
    Subgroups,
)
from edgekd.settings.recipe import SubgroupConfig

NETWORKS = ("teacher", "student", "tflite")  # whose figures are reported
BEFORE = ("student", "teacher")  # from which the change to int8 is reported
# The stage that makes a network.
STAGE = {
    "student": "distil",
    "pruned": "prune",
    "qat": "qat",
    "onnx": "export",
    "tflite": "convert",
}
DRAWS = 1000  # as in metrics.RESAMPLES
MANY_CLASSES_DRAWS = 200  # of an AUC over more than 2 classes, as in metrics
# A column with more values is not a grouping; the smallest groups are merged into one.
MOST_GROUPS = 50
SPOKEN = {GroupMetric.AUC: "AUC", GroupMetric.TOP1: "top-1"}
# How to help a group that a stage harmed.
REMEDIES = {
    "distil": "Correct this group's training images and labels, or add more of them",
    "prune": "Prune less",
    "qat": "Check that the calibration images include this group, and see qat.pin; try wider "
    "ranges, or more epochs of qat",
}
OTHER_REMEDY = "Run `edgekd report --why` to find the operator and apply what it proposes"
REST = "(smaller groups)"
NOWHERE = "(no value)"
Array = npt.NDArray[Any]
# {network before: its change to int8}, for each metric
Changes = Mapping[GroupMetric, Mapping[str, GroupChange]]


@dataclasses.dataclass(frozen=True)
class _Loss:
    """A group's loss beyond the budget, before the step that caused it is known."""

    before: str
    metric: GroupMetric
    value: float
    ci95: Interval


def report(
    evaluation: Evaluation, values: Sequence[str | None], config: SubgroupConfig, seed: int = 0
) -> Subgroups:
    """The subgroup report. `values`: the column's value of each test image, in evaluation order.

    Groups are judged by top-1, and by AUC where every large group holds all classes. All groups
    are shown by the same metric, so that they can be compared: that of the largest failure, else
    AUC where it is defined.
    """
    labels = np.asarray(evaluation.labels, np.int64)
    every = _logits(evaluation)
    answers = {name: every[name] for name in NETWORKS if name in every}
    groups = rows_by_value(values)
    large = {name for name, rows in groups.items() if len(rows) >= config.min_images}
    judging = _judging([groups[name] for name in large], answers["tflite"], labels)

    def changes(rows: Array) -> Changes:
        return {
            metric: {
                before: _change(answers, before, labels, rows, metric, seed)
                for before in BEFORE
                if before in answers
            }
            for metric in judging
        }

    whole = changes(np.arange(len(labels)))
    moved = {name: changes(rows) for name, rows in groups.items()}
    losses = {
        name: _losses(moved[name], whole, config.max_drop) if name in large else []
        for name in groups
    }
    everything = [loss for found in losses.values() for loss in found]
    worst = min(everything, key=lambda loss: loss.value, default=None)
    metric = worst.metric if worst else judging[0]
    return Subgroups(
        column=config.column,
        metric=metric,
        judged_by=judging,
        n=len(labels),
        budget=config.max_drop,
        whole=whole[metric]["student"],
        whole_from_teacher=whole[metric].get("teacher"),
        groups=[
            Group(
                group=name,
                n=len(rows),
                judged=name in large,
                networks={
                    key: _figure(value[rows], labels[rows], metric)
                    for key, value in answers.items()
                },
                change=moved[name][metric]["student"],
                change_from_teacher=moved[name][metric].get("teacher"),
                failures=[_failure(every, loss, labels, rows) for loss in losses[name]],
            )
            for name, rows in groups.items()
        ],
    )


def _logits(evaluation: Evaluation) -> dict[str, Array]:
    """{stage: logits float32 [n, k]}, in waterfall order."""
    shape = (len(evaluation.stages), len(evaluation.labels), -1)
    logits = np.frombuffer(evaluation.logits, np.float32).reshape(shape)
    return dict(zip(evaluation.stages, logits, strict=True))


def _judging(large: Sequence[Array], int8: Array, labels: Array) -> list[GroupMetric]:
    """The metrics that groups are judged by, the preferred one first."""
    if large and all(metrics.auc(int8[rows], labels[rows]) is not None for rows in large):
        return [GroupMetric.AUC, GroupMetric.TOP1]
    return [GroupMetric.TOP1]


def _losses(moved: Changes, whole: Changes, budget: float) -> list[_Loss]:
    """The losses of a group beyond the budget, at most one a network before: the worse metric's."""
    found = []
    for before in whole[GroupMetric.TOP1]:
        lost = [
            loss
            for metric in moved
            if (loss := _loss(moved[metric][before], whole[metric][before], before, metric, budget))
        ]
        if lost:
            found.append(min(lost, key=lambda loss: loss.value))
    return found


def _loss(
    change: GroupChange, whole: GroupChange, before: str, metric: GroupMetric, budget: float
) -> _Loss | None:
    """The loss of a group, or None when it is within the budget.

    Against the student the budget counts from zero; against the teacher, from what all images lost.
    """
    if change.value is None or change.ci95 is None or whole.value is None:
        return None
    expected = min(whole.value, 0.0) if before == "teacher" else 0.0
    if change.value < expected - budget and change.ci95[1] < expected:
        return _Loss(before, metric, change.value, change.ci95)
    return None


def _failure(every: Mapping[str, Array], loss: _Loss, labels: Array, rows: Array) -> GroupFailure:
    """The loss with the step, between two neighbouring networks, in which the group lost most."""
    names = list(every)[list(every).index(loss.before) :]
    found = {name: _figure(every[name][rows], labels[rows], loss.metric) or 0.0 for name in names}
    before, after = min(itertools.pairwise(names), key=lambda pair: found[pair[1]] - found[pair[0]])
    step = LossStep(before=before, to=after, stage=STAGE[after], value=found[after] - found[before])
    return GroupFailure(
        before=loss.before, metric=loss.metric, value=loss.value, ci95=loss.ci95, step=step
    )


def rows_by_value(values: Sequence[str | None]) -> dict[str, Array]:
    """{group: image rows}, largest first; beyond MOST_GROUPS the smallest are one group."""
    named = [value or NOWHERE for value in values]
    found = {name: np.flatnonzero(np.asarray(named) == name) for name in sorted(set(named))}
    ordered = sorted(found, key=lambda name: (-len(found[name]), name))
    groups = {name: found[name] for name in ordered[:MOST_GROUPS]}
    if ordered[MOST_GROUPS:]:
        groups[REST] = np.concatenate([found[name] for name in ordered[MOST_GROUPS:]])
    return groups


def _figure(logits: Array, labels: Array, metric: GroupMetric) -> float | None:
    if metric == GroupMetric.AUC:
        return metrics.auc(logits, labels)
    return metrics.top1(logits, labels)


def _change(
    answers: Mapping[str, Array],
    old: str,
    labels: Array,
    rows: Array,
    metric: GroupMetric,
    seed: int,
) -> GroupChange:
    """int8 less `old` on these images, with a percentile bootstrap interval over images."""
    before, after, own = answers[old][rows], answers["tflite"][rows], labels[rows]

    def difference(chosen: Array) -> float | None:
        pair = [_figure(part[chosen], own[chosen], metric) for part in (before, after)]
        return None if pair[0] is None or pair[1] is None else pair[1] - pair[0]

    value = difference(np.arange(len(rows)))
    if value is None:
        return GroupChange(None, None)
    cheap = before.shape[1] == 2 or metric == GroupMetric.TOP1
    rng = np.random.default_rng(seed)
    draws = [
        found
        for _ in range(DRAWS if cheap else MANY_CLASSES_DRAWS)
        if (found := difference(rng.integers(0, len(rows), len(rows)))) is not None
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return GroupChange(value, (float(low), float(high)))


def gates(body: Subgroups) -> list[str]:
    """One sentence for each group and step in which the group lost more than its budget."""
    failed = []
    for row in body.groups:
        told: set[str] = set()
        for failure in row.failures:
            step = failure.step
            low, high = failure.ci95
            if step.stage in told:
                continue  # the losses against the student and the teacher are then the same loss
            told.add(step.stage)
            failed.append(
                f"subgroups: {body.column} = {row.group} ({row.n} images) lost "
                f"{-failure.value:.3f} of {SPOKEN[failure.metric]} from {failure.before} to int8 "
                f"(95 % interval {-high:.3f} to {-low:.3f}), most of it in {step.stage} "
                f"({step.before} to {step.to}: {-step.value:.3f}); the budget is "
                f"{body.budget:.3f}. {REMEDIES.get(step.stage, OTHER_REMEDY)}; or set a larger "
                "subgroups.max_drop if you can justify it"
            )
    return failed
