"""Each of several labels by itself: its probability and the threshold from which it is said, fitted on int8 answers. numpy.

Temperature and conformal sets are about one class out of several and do not apply here. Codes are int8 [n, k], labels 0 or
1, int64 [n, k].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.evaluation import metrics
from edgekd.evaluation.conformal import BINS, Array, calibration_error, calibration_floor, platt
from edgekd.tflite.int8_rules import Range


def fit(codes: Array, labels: Array, names: Sequence[str], grid: Range) -> dict[str, Any]:
    """A sigmoid and a threshold for each label, from validation answers.

    "per_label": {"label", "slope", "offset", "threshold"}: its probability is 1 / (1 + exp(-(slope * logit + offset))), and
    it is said where that is at least the threshold, which lies between two codes, so that no rounding decides.
    """
    rows = []
    for k, name in enumerate(names):
        logits = (codes[:, k].astype(np.float64) - grid.zero_point) * grid.scale
        slope, offset = platt(logits, labels[:, k].astype(np.float64))
        cut = (youden(codes[:, k], labels[:, k]) - 0.5 - grid.zero_point) * grid.scale
        rows.append(
            {
                "label": name,
                "slope": slope,
                "offset": offset,
                "threshold": float(metrics.sigmoid(np.asarray(slope * cut + offset))),
            }
        )
    return {"kind": "labels", "per_label": rows, "fitted_on": {"split": "val", "n": len(labels)}}


def youden(codes: npt.NDArray[np.signedinteger], labels: Array) -> int:
    """The code c for which "code >= c" has the largest sensitivity + specificity - 1 (Youden 1950, Cancer 3(1), 32-35);
    the middle one of equally good ones.
    """
    has = labels == 1
    candidates = np.arange(int(codes.min()), int(codes.max()) + 2)
    said = codes[None, :] >= candidates[:, None]
    index = said[:, has].mean(1) - said[:, ~has].mean(1)
    best = np.flatnonzero(index >= index.max() - 1e-12)
    return int(candidates[best[len(best) // 2]])


def rule(fitted: Mapping[str, Any]) -> dict[str, list[float]]:
    """What an app needs of `fit`: {"slopes", "offsets", "thresholds"}, a number a label each."""
    return {
        f"{key}s": [row[key] for row in fitted["per_label"]]
        for key in ("slope", "offset", "threshold")
    }


def probabilities(codes: Array, told: Mapping[str, Sequence[float]], grid: Range) -> Array:
    """The calibrated probability of each label, float64 [n, k]; `told` as `rule` gives it."""
    logits = (codes.astype(np.float64) - grid.zero_point) * grid.scale
    return metrics.sigmoid(logits * np.asarray(told["slopes"]) + np.asarray(told["offsets"]))


def judge(fitted: dict[str, Any], codes: Array, labels: Array, grid: Range) -> dict[str, Any]:
    """What the fitted figures are worth on other images: of each label calibration error before and after, and how often it
    is found where it is there, and left alone where it is not.
    """
    told = rule(fitted)
    p, rows = probabilities(codes, told, grid), []
    before = metrics.sigmoid((codes.astype(np.float64) - grid.zero_point) * grid.scale)
    said = p >= np.asarray(told["thresholds"])
    for k, row in enumerate(fitted["per_label"]):
        has = labels[:, k] == 1
        old, new = (np.stack([1 - part[:, k], part[:, k]], 1) for part in (before, p))
        rows.append(
            {
                "label": row["label"],
                "positives": int(has.sum()),
                "ece": {
                    "before": calibration_error(old, labels[:, k]),
                    "after": calibration_error(new, labels[:, k]),
                    "floor": calibration_floor(new),
                    "bins": BINS,
                },
                "sensitivity": _share(said[has, k]),
                "sensitivity_ci95": _bounds(said[has, k]),
                "specificity": _share(~said[~has, k]),
                "specificity_ci95": _bounds(~said[~has, k]),
            }
        )
    return {"n": len(labels), "right": float((said == (labels == 1)).mean()), "per_label": rows}


def _share(hits: npt.NDArray[np.bool_]) -> float | None:
    return float(hits.mean()) if len(hits) else None


def _bounds(hits: npt.NDArray[np.bool_]) -> list[float] | None:
    return list(metrics.wilson(float(hits.mean()), len(hits))) if len(hits) else None
