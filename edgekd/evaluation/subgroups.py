"""Accuracy by group: teacher, student and int8 in each group of a column, what int8 changed there, and the gate on it.

Groups are values of any column of manifest.csv. A change is int8 less the student (or teacher) on the same images, so its
interval is a paired bootstrap: images of the group are drawn again, and both networks are asked about the same draw.

A group fails when int8 loses more than the budget against the float student, or when it loses more than the budget beyond
what all images lose against the teacher; and only when the interval leaves no doubt that it lost (one image of 20 is 5 %).
It is judged by its top-1, and by its AUC where that can be told: a network whose ranges clip one group's images may keep
their order, an AUC of 1, and answer half of them wrong. Each failure names the step of the build that lost most.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Evaluation, Json
from edgekd.evaluation import metrics
from edgekd.settings.recipe import SubgroupConfig

NETWORKS = ("teacher", "student", "tflite")  # whose figures are told
BEFORE = ("student", "teacher")  # from which the change to int8 is told
STAGE = {
    "student": "distil",
    "pruned": "prune",
    "qat": "qat",
    "onnx": "export",
    "tflite": "convert",
}  # that makes a network
DRAWS = 1000  # as in metrics.RESAMPLES
MOST_GROUPS = 50  # a column with more values is not a grouping; the smallest are put together
SPOKEN = {"auc": "AUC", "top1": "top-1"}
OTHERWISE = "`edgekd report --why` looks for the op; its mend"
ADVICE = {
    "distil": "Look at this group's training images and labels; mending them, or more of them",
    "prune": "A smaller cut",
    "qat": "Look whether the calibration images hold this group, and at qat.pin; wider ranges, or more epochs of qat",
}
REST = "(smaller groups)"
NOWHERE = "(no value)"
Array = npt.NDArray[Any]
Block = dict[str, Any]


def report(
    evaluation: Evaluation, values: Sequence[str | None], config: SubgroupConfig, seed: int = 0
) -> dict[str, Json]:
    """The subgroup report. `values`: the column's value of each test image, in the evaluation's order.

    Judged is the top-1, and the AUC where every judged group holds all classes. Shown is one of them for all groups, so that
    they compare: that of the largest failure, else the AUC if it can be told.
    """
    labels = np.asarray(evaluation.labels, np.int64)
    logits = np.frombuffer(evaluation.logits, np.float32).reshape(
        len(evaluation.stages), len(labels), -1
    )
    every = dict(zip(evaluation.stages, logits, strict=True))
    answers = {name: every[name] for name in NETWORKS if name in every}
    groups = _groups([value or NOWHERE for value in values])
    large = [rows for rows in groups.values() if len(rows) >= config.min_images]
    judging = ["top1"]
    if large and all(
        metrics.auc(answers["tflite"][rows], labels[rows]) is not None for rows in large
    ):
        judging.insert(0, "auc")

    def changes(chosen: Array) -> dict[str, dict[str, Block]]:
        """{metric: {before: change}}."""
        return {
            kind: {
                old: _change(answers, old, labels, chosen, kind, seed)
                for old in BEFORE
                if old in answers
            }
            for kind in judging
        }

    whole = changes(np.arange(len(labels)))
    moved = {name: changes(chosen) for name, chosen in groups.items()}
    failures = {
        name: _failures(moved[name], whole, config.max_drop)
        if len(chosen) >= config.min_images
        else []
        for name, chosen in groups.items()
    }
    worst = min(
        (failure for found in failures.values() for failure in found),
        key=lambda failure: failure["value"],
        default=None,
    )
    metric = worst["metric"] if worst else judging[0]
    rows = [
        {
            "group": name,
            "n": len(chosen),
            "judged": len(chosen) >= config.min_images,
            "networks": {
                key: _figure(value[chosen], labels[chosen], metric)
                for key, value in answers.items()
            },
            "change": moved[name][metric]["student"],
            "change_from_teacher": moved[name][metric].get("teacher"),
            "failures": [
                {**failure, "step": _step(every, failure, labels, chosen)}
                for failure in failures[name]
            ],
        }
        for name, chosen in groups.items()
    ]
    return {
        "column": config.column,
        "metric": metric,
        "judged_by": judging,
        "n": len(labels),
        "budget": config.max_drop,
        "whole": whole[metric]["student"],
        "whole_from_teacher": whole[metric].get("teacher"),
        "groups": rows,
    }


def _failures(moved: Mapping[str, Any], whole: Mapping[str, Any], budget: float) -> list[Block]:
    """What a group lost too much of, at most one failure for each network before: the worse of its metrics."""
    found = []
    for old in whole["top1"]:
        lost = [
            {"from": old, "metric": kind, **moved[kind][old]}
            for kind in moved
            if _lost(moved[kind][old], whole[kind][old], old, budget)
        ]
        if lost:
            found.append(min(lost, key=lambda failure: failure["value"]))
    return found


def _lost(change: Mapping[str, Any], whole: Mapping[str, Any], old: str, budget: float) -> bool:
    """Whether a group lost too much: against the student in itself, against the teacher beyond what all images lost."""
    if change["value"] is None or whole["value"] is None:
        return False
    expected = min(whole["value"], 0.0) if old == "teacher" else 0.0
    return bool(change["value"] < expected - budget and change["ci95"][1] < expected)


def _step(
    every: Mapping[str, Array], failure: Mapping[str, Any], labels: Array, rows: Array
) -> Block:
    """The step between neighbouring networks, from the failure's on, in which the group lost most of the metric."""
    names = list(every)[list(every).index(failure["from"]) :]
    found = {
        name: _figure(every[name][rows], labels[rows], failure["metric"]) or 0.0 for name in names
    }
    before, after = min(itertools.pairwise(names), key=lambda pair: found[pair[1]] - found[pair[0]])
    return {
        "from": before,
        "to": after,
        "stage": STAGE[after],
        "value": found[after] - found[before],
    }


def _groups(values: list[str]) -> dict[str, Array]:
    """{group: image rows}, largest first; beyond MOST_GROUPS the smallest are one group."""
    found = {name: np.flatnonzero(np.asarray(values) == name) for name in sorted(set(values))}
    ordered = sorted(found, key=lambda name: (-len(found[name]), name))
    groups = {name: found[name] for name in ordered[:MOST_GROUPS]}
    if ordered[MOST_GROUPS:]:
        groups[REST] = np.concatenate([found[name] for name in ordered[MOST_GROUPS:]])
    return groups


def _figure(logits: Array, labels: Array, metric: str) -> float | None:
    return metrics.auc(logits, labels) if metric == "auc" else metrics.top1(logits, labels)


def _change(
    answers: Mapping[str, Array], old: str, labels: Array, rows: Array, metric: str, seed: int
) -> dict[str, Any]:
    """{"value", "ci95"}: int8 less `old` on these images; the interval is a percentile bootstrap over images."""
    before, after, own = answers[old][rows], answers["tflite"][rows], labels[rows]

    def difference(chosen: Array) -> float | None:
        pair = [_figure(part[chosen], own[chosen], metric) for part in (before, after)]
        return None if pair[0] is None or pair[1] is None else pair[1] - pair[0]

    value = difference(np.arange(len(rows)))
    if value is None:
        return {"value": None, "ci95": None}
    rng = np.random.default_rng(seed)
    draws = [
        found
        for _ in range(DRAWS if before.shape[1] == 2 or metric == "top1" else DRAWS // 5)
        if (found := difference(rng.integers(0, len(rows), len(rows)))) is not None
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": value, "ci95": [float(low), float(high)]}


def gates(body: Mapping[str, Any]) -> list[str]:
    """Each group that lost more than its budget, named, with the step that did it. One sentence a group and step."""
    failed = []
    for row in body["groups"]:
        told: set[str] = set()
        for failure in row["failures"]:
            step = failure["step"]
            low, high = failure["ci95"]
            if step["stage"] in told:
                continue  # the student's loss and the teacher's are then the same one
            told.add(step["stage"])
            failed.append(
                f"subgroups: {body['column']} = {row['group']} ({row['n']} images) lost {-failure['value']:.3f} of "
                f"{SPOKEN[failure['metric']]} from {failure['from']} to int8 (95 %: {-high:.3f} to {-low:.3f}), "
                f"most of it in {step['stage']} ({step['from']} to {step['to']}: {-step['value']:.3f}); the budget "
                f"is {body['budget']:.3f}. {ADVICE.get(step['stage'], OTHERWISE)}, or a larger "
                "subgroups.max_drop that you can defend, lets the build pass"
            )
    return failed
