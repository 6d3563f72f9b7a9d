"""Accuracy by group: teacher, student and int8 in each group of a column, what int8 changed there, and the gate on it.

Groups are values of any column of manifest.csv. A change is int8 less the student (or teacher) on the same images, so its
interval is a paired bootstrap: images of the group are drawn again, and both networks are asked about the same draw.

A group fails when int8 loses more than the budget against the float student, or when it loses more than the budget beyond
what all images lose against the teacher; and only when the interval leaves no doubt that it lost (one image of 20 is 5 %).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd import metrics
from edgekd.artifacts import Evaluation, Json
from edgekd.recipe import SubgroupConfig

NETWORKS = ("teacher", "student", "tflite")  # whose figures are told
BEFORE = ("student", "teacher")  # from which the change to int8 is told
DRAWS = 1000  # as in metrics.RESAMPLES
MOST_GROUPS = 50  # a column with more values is not a grouping; the smallest are put together
REST = "(smaller groups)"
NOWHERE = "(no value)"
Array = npt.NDArray[Any]


def report(evaluation: Evaluation, values: Sequence[str | None], config: SubgroupConfig, seed: int = 0) -> dict[str, Json]:
    """The subgroup report. `values`: the column's value of each test image, in the evaluation's order.

    AUC in groups that hold every class in most draws, else top-1: the metric is one for all groups, so that they compare.
    """
    labels = np.asarray(evaluation.labels, np.int64)
    logits = np.frombuffer(evaluation.logits, np.float32).reshape(len(evaluation.stages), len(labels), -1)
    answers = {name: logits[evaluation.stages.index(name)] for name in NETWORKS if name in evaluation.stages}
    groups = _groups([value or NOWHERE for value in values])
    large = [rows for rows in groups.values() if len(rows) >= config.min_images]
    metric = "auc" if large and all(metrics.auc(answers["tflite"][rows], labels[rows]) is not None for rows in large) \
        else "top1"
    everyone = np.arange(len(labels))
    whole = {name: _change(answers, name, labels, everyone, metric, seed) for name in BEFORE if name in answers}
    rows: list[dict[str, Json]] = []
    for name, chosen in groups.items():
        changes = {old: _change(answers, old, labels, chosen, metric, seed) for old in whole}
        judged = len(chosen) >= config.min_images
        rows.append({"group": name, "n": len(chosen), "judged": judged,
                     "networks": {key: _figure(value[chosen], labels[chosen], metric) for key, value in answers.items()},
                     "change": changes["student"], "change_from_teacher": changes.get("teacher"),
                     "failed_against": [old for old, change in changes.items()
                                        if judged and _lost(change, whole[old], old, config.max_drop)]})
    return {"column": config.column, "metric": metric, "n": len(labels), "budget": config.max_drop,
            "whole": whole["student"], "whole_from_teacher": whole.get("teacher"), "groups": rows}


def _lost(change: Mapping[str, Any], whole: Mapping[str, Any], old: str, budget: float) -> bool:
    """Whether a group lost too much: against the student in itself, against the teacher beyond what all images lost."""
    if change["value"] is None or whole["value"] is None:
        return False
    expected = min(whole["value"], 0.0) if old == "teacher" else 0.0
    return bool(change["value"] < expected - budget and change["ci95"][1] < expected)


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


def _change(answers: Mapping[str, Array], old: str, labels: Array, rows: Array, metric: str, seed: int) -> dict[str, Any]:
    """{"value", "ci95"}: int8 less `old` on these images; the interval is a percentile bootstrap over images."""
    before, after, own = answers[old][rows], answers["tflite"][rows], labels[rows]

    def difference(chosen: Array) -> float | None:
        pair = [_figure(part[chosen], own[chosen], metric) for part in (before, after)]
        return None if pair[0] is None or pair[1] is None else pair[1] - pair[0]

    value = difference(np.arange(len(rows)))
    if value is None:
        return {"value": None, "ci95": None}
    rng = np.random.default_rng(seed)
    draws = [found for _ in range(DRAWS if before.shape[1] == 2 or metric == "top1" else DRAWS // 5)
             if (found := difference(rng.integers(0, len(rows), len(rows)))) is not None]
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": value, "ci95": [float(low), float(high)]}


def gates(body: Mapping[str, Any]) -> list[str]:
    """Each group that lost more than its budget, named."""
    failed = []
    for row in body["groups"]:
        for old in row["failed_against"]:
            change = row["change" if old == "student" else "change_from_teacher"]
            failed.append(f"subgroups: {body['column']} = {row['group']} ({row['n']} images) lost {-change['value']:.3f} of "
                          f"{body['metric']} from {old} to int8 (95 %: {-change['ci95'][1]:.3f} to "
                          f"{-change['ci95'][0]:.3f}); the budget is {body['budget']:.3f}. Look at this group's images; more "
                          "of them in training, or a larger subgroups.max_drop that you can defend, lets the build pass")
    return failed
