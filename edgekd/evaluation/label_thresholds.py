"""A probability and a threshold for each of several labels, fitted on int8 answers. numpy only.

Temperature scaling and conformal sets choose one class out of several, so they do not apply here.
Codes are int8 [n, k]; labels are 0 or 1, int64 [n, k].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgekd.core.intervals import Interval, wilson
from edgekd.core.records import Record
from edgekd.evaluation import metrics
from edgekd.evaluation.confidence_record import (
    FittedOn,
    LabelCalibrationError,
    LabelConfidence,
    LabelFit,
    LabelsTest,
    LabelTest,
    OutputGrid,
)
from edgekd.evaluation.conformal import BINS, Array, calibration_error, calibration_floor, platt
from edgekd.tflite.int8_rules import Range


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What was fitted on `n` validation images, one row a label."""

    per_label: list[LabelFit]
    n: int


class LabelRule(Record, frozen=True):
    """What an app needs to decide about each label: one number a label in each list."""

    slopes: list[float]
    offsets: list[float]
    thresholds: list[float]


def fit(codes: Array, labels: Array, names: Sequence[str], grid: Range) -> Fitted:
    """Fit a sigmoid and a threshold for each label to validation answers.

    A label's probability is 1 / (1 + exp(-(slope * logit + offset))). The label is given where the
    probability is at least the threshold. The threshold lies between two codes, so that rounding
    on a device cannot decide.
    """
    rows = []
    for k, name in enumerate(names):
        logits = (codes[:, k].astype(np.float64) - grid.zero_point) * grid.scale
        slope, offset = platt(logits, labels[:, k].astype(np.float64))
        cut = (youden(codes[:, k], labels[:, k]) - 0.5 - grid.zero_point) * grid.scale
        threshold = float(metrics.sigmoid(np.asarray(slope * cut + offset)))
        rows.append(LabelFit(name, slope, offset, threshold))
    return Fitted(rows, len(labels))


def youden(codes: npt.NDArray[np.signedinteger], labels: Array) -> int:
    """The code c for which "code >= c" maximises sensitivity + specificity - 1.

    Youden 1950, Cancer 3(1), 32-35. Of equally good codes it is the middle one. `codes` int8 [n];
    `labels` 0 or 1 [n].
    """
    has = labels == 1
    candidates = np.arange(int(codes.min()), int(codes.max()) + 2)
    said = codes[None, :] >= candidates[:, None]
    index = said[:, has].mean(1) - said[:, ~has].mean(1)
    best = np.flatnonzero(index >= index.max() - 1e-12)
    return int(candidates[best[len(best) // 2]])


def rule(per_label: Sequence[LabelFit]) -> LabelRule:
    """The fit as lists over labels."""
    return LabelRule(
        slopes=[row.slope for row in per_label],
        offsets=[row.offset for row in per_label],
        thresholds=[row.threshold for row in per_label],
    )


def probabilities(codes: Array, told: LabelRule, grid: Range) -> Array:
    """The calibrated probability of each label, float64 [n, k]."""
    logits = (codes.astype(np.float64) - grid.zero_point) * grid.scale
    return metrics.sigmoid(logits * np.asarray(told.slopes) + np.asarray(told.offsets))


def judge(fitted: Fitted, codes: Array, labels: Array, grid: Range) -> LabelsTest:
    """What the fitted figures are worth on other images, label by label."""
    told = rule(fitted.per_label)
    p, rows = probabilities(codes, told, grid), []
    before = metrics.sigmoid((codes.astype(np.float64) - grid.zero_point) * grid.scale)
    said = p >= np.asarray(told.thresholds)
    for k, row in enumerate(fitted.per_label):
        has = labels[:, k] == 1
        old, new = (np.stack([1 - part[:, k], part[:, k]], 1) for part in (before, p))
        rows.append(
            LabelTest(
                label=row.label,
                positives=int(has.sum()),
                ece=LabelCalibrationError(
                    before=calibration_error(old, labels[:, k]),
                    after=calibration_error(new, labels[:, k]),
                    floor=calibration_floor(new),
                    bins=BINS,
                ),
                sensitivity=_share(said[has, k]),
                sensitivity_ci95=_bounds(said[has, k]),
                specificity=_share(~said[~has, k]),
                specificity_ci95=_bounds(~said[~has, k]),
            )
        )
    return LabelsTest(len(labels), float((said == (labels == 1)).mean()), rows)


def record(fitted: Fitted, test: LabelsTest, grid: Range) -> LabelConfidence:
    """confidence.json's record of a fit, and of what it is worth on the test images."""
    return LabelConfidence(
        output=OutputGrid(grid.scale, grid.zero_point),
        per_label=fitted.per_label,
        fitted_on=FittedOn("val", fitted.n),
        test=test,
    )


def _share(hits: npt.NDArray[np.bool_]) -> float | None:
    return float(hits.mean()) if len(hits) else None


def _bounds(hits: npt.NDArray[np.bool_]) -> Interval | None:
    return wilson(float(hits.mean()), len(hits)) if len(hits) else None
