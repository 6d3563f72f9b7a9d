"""Build the "accuracy" block of report.json from the answers of every stage's network.

Each stage is compared with the one before it on the same test images: agreement, flipped images by
name, paired intervals, and its budget. `stage_verdicts` judges the changes.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import msgspec
import numpy as np

from edgekd.core.artifacts import Evaluation, Labels
from edgekd.core.records import UNSET, UnsetType
from edgekd.evaluation import metrics
from edgekd.evaluation.accuracy_record import (
    Accuracy,
    Change,
    Confusion,
    FlippedImage,
    FlippedImages,
    Metric,
    Paired,
    StageBudget,
    StageRow,
    StageState,
)
from edgekd.evaluation.stage_verdicts import ROUNDING, judge_stage, verdict
from edgekd.settings.recipe import BudgetConfig

METRICS: dict[Labels, Metric] = {"one": Metric.TOP1, "many": Metric.LABEL_DECISIONS}
# Flipped images named in report.json, each way and stage. The counts are of all flipped images.
NAMED = 100


@dataclasses.dataclass(frozen=True)
class Images:
    """The test images that every network answered.

    `names`: one an image, in the order of the evaluation's labels. `output_scale`: of the file's
    output tensor, so that margins are in its LSB; None when there is no file. `seed`: of the
    bootstrap. `answered`: they have no labels, and the float network's answers stand for them.
    """

    names: Sequence[str]
    classes: Sequence[str]
    output_scale: float | None = None
    seed: int = 0
    answered: bool = False

    def metric(self, kind: Labels) -> Metric:
        """What the share of right answers is."""
        return Metric.AGREEMENT if self.answered else METRICS[kind]


def accuracy(evaluation: Evaluation, images: Images, budget: BudgetConfig) -> Accuracy:
    """The "accuracy" block of a build whose stages' networks answered the same test images."""
    labels = np.asarray(evaluation.labels)
    kind = metrics.kind(labels)
    logits = np.frombuffer(evaluation.logits, np.float32).reshape(
        len(evaluation.stages), len(labels), -1
    )
    of_stage = dict(zip(evaluation.stages, logits, strict=True))
    rows = [_first(evaluation.stages[0], logits[0], labels)]
    rows += [
        _compared(before, after, logits[number : number + 2], labels, images, budget)
        for number, (before, after) in enumerate(itertools.pairwise(evaluation.stages))
    ]
    confusion = (
        Confusion(list(images.classes), metrics.confusion(logits[-1], labels).tolist())
        if kind == "one"
        else UNSET
    )
    return Accuracy(
        split="test",
        n=len(labels),
        metric=images.metric(kind),
        waterfall=rows,
        paired=Paired(
            method=metrics.METHODS[kind],
            paper=metrics.PAPER,
            draws=metrics.RESAMPLES,
            seed=images.seed,
            test=metrics.TESTS[kind],
        ),
        verdict=verdict(rows),
        confusion=confusion,
        int8=_to_int8("student", of_stage, labels, images.seed),
        against_teacher=_to_int8("teacher", of_stage, labels, images.seed),
    )


def _to_int8(
    stage: str, logits: dict[str, np.ndarray], labels: np.ndarray, seed: int
) -> Change | UnsetType:
    """What the .tflite gains over the network of a stage: the sum of all stages between them."""
    if not {stage, "tflite"} <= logits.keys():
        return UNSET
    return metrics.change(logits[stage], logits["tflite"], labels, seed)


def _first(stage: str, logits: np.ndarray, labels: np.ndarray) -> StageRow:
    """The row of the first stage, which is compared with nothing."""
    figures = metrics.evaluate(logits, labels)
    return StageRow(
        stage=stage,
        top1=figures.top1,
        top1_ci95=figures.top1_ci95,
        auc=figures.auc,
        auc_ci95=figures.auc_ci95,
        per_label=figures.per_label,
        agree_with_previous=None,
        flips_bad=0,
        flips_good=0,
        state=StageState.FIRST,
    )


def _compared(
    previous: str,
    stage: str,
    logits: np.ndarray,
    labels: np.ndarray,
    images: Images,
    config: BudgetConfig,
) -> StageRow:
    """The row of a stage, compared with the one before it. `logits` [2, n, k]: of both."""
    before, after = logits
    kind = metrics.kind(labels)
    flips = metrics.flips(before, after, labels)
    change = metrics.change(before, after, labels, images.seed)
    budget = stage_budget(stage, config)
    row = msgspec.structs.replace(
        _first(stage, after, labels),
        agree_with_previous=flips.agree_with_previous,
        flips_bad=flips.flips_bad,
        flips_good=flips.flips_good,
        change=change,
        flipped=_flipped(before, after, labels, images),
        budget=budget,
    )
    if stage in ROUNDING:
        beyond = _beyond_rounding(before, after, kind, images.output_scale, config.rounding_lsb)
        row = msgspec.structs.replace(row, beyond_rounding=beyond)
    judged = judge_stage(row, change, budget, previous, labels.size, images.metric(kind))
    return msgspec.structs.replace(row, state=judged.state, verdict=judged.text)


def stage_budget(stage: str, config: BudgetConfig) -> StageBudget:
    """What a stage may lose. A trained stage without a budget of its own may lose what QAT may."""
    if stage in ROUNDING:
        return StageBudget(top1=0.0, auc=config.rounding_auc, rounding_lsb=config.rounding_lsb)
    return StageBudget(
        top1=getattr(config, f"{stage}_top1", config.qat_top1),
        auc=getattr(config, f"{stage}_auc", config.qat_auc),
    )


def _flipped(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, images: Images
) -> FlippedImages:
    """The answers that changed between right and wrong, the largest margin first."""
    kind = metrics.kind(labels)
    # An answer is an image's class, or one label of it. From here on both are one row.
    was, now, truth = (
        part.reshape(-1)
        for part in (metrics.answers(before, kind), metrics.answers(after, kind), labels)
    )
    margin = _margins(before, kind) / (images.output_scale or 1.0)

    def told(answer: int, said: np.ndarray) -> str:
        if kind == "one":
            return images.classes[said[answer]]
        name = images.classes[answer % len(images.classes)]
        return name if said[answer] else f"no {name}"

    def named(mask: np.ndarray) -> list[FlippedImage]:
        chosen = sorted(np.flatnonzero(mask), key=lambda answer: (-margin[answer], answer))[:NAMED]
        return [
            FlippedImage(
                name=str(images.names[answer * len(images.names) // len(truth)]),
                label=told(answer, truth),
                was=told(answer, was),
                now=told(answer, now),
                margin_lsb=round(float(margin[answer]), 2) if images.output_scale else None,
            )
            for answer in chosen
        ]

    return FlippedImages(
        bad=named((was == truth) & (now != truth)), good=named((was != truth) & (now == truth))
    )


def _beyond_rounding(
    before: np.ndarray, after: np.ndarray, kind: Labels, output_scale: float | None, limit: float
) -> int | None:
    """How many answers changed although their margin was more than `limit` LSB."""
    if not output_scale:
        return None
    moved = metrics.answers(before, kind) != metrics.answers(after, kind)
    margin = _margins(before, kind) / output_scale
    return int((moved.reshape(-1) & (margin > limit)).sum())


def _margins(logits: np.ndarray, labels: Labels) -> np.ndarray:
    """How far each answer is from changing, float64 [n], or [n * k] for several labels.

    The distance between the two largest logits, or of each label's logit from 0.
    """
    real = logits.astype(np.float64)
    return np.asarray(
        np.diff(np.sort(real, axis=1)[:, -2:], axis=1)[:, 0]
        if labels == "one"
        else np.abs(real).reshape(-1)
    )
