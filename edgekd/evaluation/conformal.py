"""Confidence of int8 answers: temperature, calibration error, split-conformal sets, and when to say "unsure". numpy only.

Everything is fitted on the codes that the .tflite itself gives, not on the float network's logits: 256 steps of an
output are what an app sees. `scores` turns codes into real numbers, the rest works on scores float64 [n, k] and labels
int64 [n].
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgekd.evaluation.metrics import probabilities, wilson
from edgekd.tflite.int8_rules import Range

Array = npt.NDArray[Any]
Kind = Literal["logits", "probabilities"]

BINS = 15  # as in Guo et al. 2017, arXiv 1706.04599, section 2
TEMPERATURES = (
    0.02,
    50.0,
)  # searched range; outside it a network is either constant or certain of everything
# A device works the softmax out in float32, which errs by under 1e-6 here; the threshold is lowered by more than that, so
# that an answer which is exactly on it is in the set everywhere.
MARGIN = 1e-5
# A class with fewer held-out images shares the threshold of all: with 50, what its own threshold really covers lies within
# 8 points of 90 % in 19 of 20 draws (Beta(46, 5)); with fewer than 9 there is none to fit.
OWN_THRESHOLD = 50
FLOOR_DRAWS = 50  # gives the floor to a few per cent
PROBABILITY_STEP = 1 / 256  # of SOFTMAX's int8 output (LiteRT 8-bit quantization specification)


def scores(codes: Array, grid: Range, kind: Kind) -> Array:
    """Logits float64 [n, k] of output codes int8 [n, k]. For a file that ends in SOFTMAX: log p, with zero as half a step."""
    real = (codes.astype(np.float64) - grid.zero_point) * grid.scale
    return real if kind == "logits" else np.log(np.maximum(real, PROBABILITY_STEP / 2))


def negative_log_likelihood(logits: Array, labels: Array) -> float:
    """Mean of -log p(label), in nats."""
    shifted = logits - logits.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]).mean())


def fit_temperature(logits: Array, labels: Array) -> float:
    """The T > 0 that makes softmax(logits / T) likeliest (Guo et al. 2017, arXiv 1706.04599, section 4.2).

    The likelihood is concave in 1/T, so a golden-section search over log T finds its one maximum.
    """
    low, high = (math.log(value) for value in TEMPERATURES)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(60):  # the interval shrinks by 0.618 each time: to 1e-12 of its length
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if negative_log_likelihood(logits / math.exp(left), labels) < negative_log_likelihood(
            logits / math.exp(right), labels
        ):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def calibration_error(p: Array, labels: Array) -> float:
    """Expected calibration error of probabilities [n, k]: |accuracy - confidence| over BINS equal bins, by their share."""
    return float(
        sum(
            row["share"] * abs(row["accuracy"] - row["confidence"])
            for row in reliability(p, labels)
        )
    )


def debiased_error(p: Array, labels: Array) -> float:
    """The calibration error less an estimate of what chance adds to it in bins of so few images.

    A bin's gap g is measured with a standard error s = sqrt(a (1 - a) / n), a its accuracy; |g| is then too large by about
    E|N(g, s)| - |g| (Kumar, Liang and Ma 2019, arXiv 1909.10155, who draw from that normal; here its mean in closed form).
    Chance is not wholly taken out: right probabilities still show about 0.6 of the floor. Never below zero.
    """
    total = 0.0
    for row in reliability(p, labels):
        gap = abs(row["accuracy"] - row["confidence"])
        error = math.sqrt(row["accuracy"] * (1 - row["accuracy"]) / (row["share"] * len(labels)))
        total += row["share"] * (2 * gap - _folded_normal(gap, error))
    return max(total, 0.0)


def _folded_normal(mean: float, deviation: float) -> float:
    """E|N(mean, deviation)|."""
    if deviation == 0:
        return abs(mean)
    ratio = mean / deviation
    return deviation * math.sqrt(2 / math.pi) * math.exp(-ratio * ratio / 2) + mean * math.erf(
        ratio / math.sqrt(2)
    )


def calibration_floor(p: Array, seed: int = 0) -> float:
    """The calibration error that probabilities [n, k] show with so few images although they are right: the mean over
    labels drawn from p itself. An error is never below zero, so it does not average out.
    """
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(FLOOR_DRAWS):
        labels = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
        drawn.append(calibration_error(p, labels))
    return float(np.mean(drawn))


def reliability(p: Array, labels: Array) -> list[dict[str, float]]:
    """What a reliability plot shows: for each bin that holds images {"low", "high", "share", "confidence", "accuracy"}."""
    top, right = p.max(1), p.argmax(1) == labels
    place = np.minimum((top * BINS).astype(int), BINS - 1)
    rows = []
    for number in range(BINS):
        chosen = place == number
        if chosen.any():
            rows.append(
                {
                    "low": number / BINS,
                    "high": (number + 1) / BINS,
                    "share": float(chosen.mean()),
                    "confidence": float(top[chosen].mean()),
                    "accuracy": float(right[chosen].mean()),
                }
            )
    return rows


def conformal_threshold(p: Array, labels: Array, coverage: float) -> float:
    """The t for which {k: p_k >= t} holds the label of a new image with probability of at least `coverage`.

    Split conformal prediction with the score 1 - p(label) (Sadinle et al. 2019, arXiv 1609.00451): t is the
    floor((n + 1) * (1 - coverage))-th smallest p(label) of n held-out images. 0, every label, when n is too small. It
    holds for images drawn like the held-out ones, and for no others.
    """
    own = np.sort(p[np.arange(len(labels)), labels])
    rank = math.floor(
        (len(labels) + 1) * (1 - coverage) + 1e-9
    )  # 1e-9: 10 * (1 - 0.9) is 0.9999999999999998
    return max(float(own[rank - 1]) - MARGIN, 0.0) if rank >= 1 else 0.0


def conformal_thresholds(p: Array, labels: Array, coverage: float, classes: int) -> list[float]:
    """A threshold a class, so that the promise holds for the images of each class and not only on average.

    Class-conditional (Mondrian) split conformal prediction (Vovk 2012, arXiv 1209.2673); a class with fewer than
    OWN_THRESHOLD images takes the threshold of all images (as rare classes do in Ding et al. 2023, arXiv 2306.09335).
    """
    shared = conformal_threshold(p, labels, coverage)
    return [
        conformal_threshold(p[labels == k], labels[labels == k], coverage)
        if (labels == k).sum() >= OWN_THRESHOLD
        else shared
        for k in range(classes)
    ]


def prediction_sets(p: Array, thresholds: Array | list[float]) -> npt.NDArray[np.bool_]:
    """Which labels are in each image's set, bool [n, k]: those that reach their own threshold."""
    return p >= np.asarray(thresholds, np.float64)


def sure(sets: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether each set is exactly one label, bool [n]. None, or several, is "unsure"."""
    return sets.sum(1) == 1


def fit_sigmoid(logits: Array, labels: Array) -> tuple[float, float]:
    """(slope, offset) of 1 / (1 + exp(-(slope * logit + offset))), one pair for all classes (Platt 1999).

    TFLite Metadata's score calibration looks at one output at a time, so temperature scaling cannot be put into it;
    this is the nearest that it can say. One slope above zero for all classes keeps the order of the answers.
    """
    return platt(
        logits.reshape(-1),
        (np.arange(logits.shape[1])[None] == labels[:, None]).reshape(-1).astype(np.float64),
    )


def platt(x: Array, y: Array) -> tuple[float, float]:
    """(slope, offset) of the likeliest 1 / (1 + exp(-(slope * x + offset))) for outcomes y, 0 or 1; x and y float64 [n].

    Newton's method, with a whisper of a prior so that separable data give finite figures.
    """
    spread = float(x.std()) or 1.0
    design = np.stack([x / spread, np.ones_like(x)], 1)
    prior = np.diag([1e-3, 1e-6])
    weights = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -40, 40)))
        gradient = design.T @ (p - y) / len(y) + prior @ weights
        hessian = (design * (p * (1 - p))[:, None]).T @ design / len(y) + prior
        step = np.linalg.solve(hessian, gradient)
        weights = weights - step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-10:
            break
    slope = max(
        float(weights[0]), 1e-3
    )  # a network worse than chance must not have its answers turned round
    return slope / spread, float(weights[1])


def fit(codes: Array, labels: Array, grid: Range, kind: Kind, coverage: float) -> dict[str, Any]:
    """Temperature, thresholds and sigmoid of validation answers: int8 codes [n, k] and their labels [n]."""
    logits = scores(codes, grid, kind)
    temperature = fit_temperature(logits, labels)
    p = probabilities(logits / temperature)
    slope, offset = fit_sigmoid(logits, labels)
    return {
        "kind": kind,
        "temperature": temperature,
        "coverage": coverage,
        "thresholds": conformal_thresholds(p, labels, coverage, logits.shape[1]),
        "sigmoid": {"slope": slope, "offset": offset},
        "fitted_on": {"split": "val", "n": len(labels)},
    }


def judge(fitted: dict[str, Any], codes: Array, labels: Array, grid: Range) -> dict[str, Any]:
    """What the fitted figures are worth on other images: ECE before and after, coverage, set sizes, the reject option."""
    logits = scores(codes, grid, fitted["kind"])
    before, p = probabilities(logits), probabilities(logits / fitted["temperature"])
    sets = prediction_sets(p, fitted["thresholds"])
    held, clear = sets[np.arange(len(labels)), labels], sure(sets)
    right = p.argmax(1) == labels
    sizes = np.bincount(sets.sum(1), minlength=logits.shape[1] + 1)
    return {
        "n": len(labels),
        "ece": {
            "before": calibration_error(before, labels),
            "after": calibration_error(p, labels),
            "debiased_before": debiased_error(before, labels),
            "debiased_after": debiased_error(p, labels),
            "floor": calibration_floor(p),
            "bins": BINS,
        },
        "nll": {
            "before": negative_log_likelihood(logits, labels),
            "after": negative_log_likelihood(logits / fitted["temperature"], labels),
        },
        "coverage": float(held.mean()),
        "coverage_ci95": list(wilson(float(held.mean()), len(labels))),
        "coverage_by_class": [
            {"n": int(own.sum()), "coverage": float(held[own].mean()) if own.any() else None}
            for own in (labels == k for k in range(logits.shape[1]))
        ],
        "set_sizes": {str(size): int(count) for size, count in enumerate(sizes) if count},
        "unsure": float((~clear).mean()),
        "accuracy": float(right.mean()),
        "accuracy_when_sure": float(right[clear].mean()) if clear.any() else None,
        "reliability": {"before": reliability(before, labels), "after": reliability(p, labels)},
    }
