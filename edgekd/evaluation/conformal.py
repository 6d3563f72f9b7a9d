"""Confidence of int8 answers: temperature, calibration error, and split-conformal prediction sets.

Everything is fitted on the codes that the .tflite itself outputs, not on the float network's
logits: an app sees the 256 steps of an 8-bit output. `scores` turns codes into real numbers; the
other functions work on scores float64 [n, k], probabilities float64 [n, k] and labels int64 [n].
numpy only.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.intervals import wilson
from edgekd.evaluation.confidence_record import (
    BeforeAfter,
    CalibrationError,
    ClassConfidence,
    ClassCoverage,
    ClassTest,
    FittedOn,
    LogitConfidence,
    OutputGrid,
    OutputKind,
    ProbabilityConfidence,
    Reliability,
    ReliabilityBin,
    Sigmoid,
)
from edgekd.evaluation.metrics import probabilities
from edgekd.tflite.int8_rules import Range

Array = npt.NDArray[Any]

BINS = 15  # as in Guo et al. 2017, arXiv 1706.04599, section 2
# The searched range. Outside it a network is either constant or certain of everything.
TEMPERATURES = (0.02, 50.0)
# A device computes the softmax in float32, with an error below 1e-6 here. The threshold is lowered
# by more than that, so that an answer exactly on it is in the set on every device.
MARGIN = 1e-5
# A class with fewer held-out images shares the threshold of all images. With 50, the true coverage
# of a class's own threshold is within 8 points of 90 % in 19 of 20 draws (Beta(46, 5)); with fewer
# than 9 there is no threshold to fit.
OWN_THRESHOLD = 50
FLOOR_DRAWS = 50  # enough to know the floor to a few per cent
PROBABILITY_STEP = 1 / 256  # of SOFTMAX's int8 output (LiteRT 8-bit quantization specification)
SEARCH_STEPS = 60  # golden-section steps: the interval shrinks to 1e-12 of its length
NEWTON_STEPS = 50  # far more than a two-parameter fit needs to converge
# A weak prior on slope and offset, so that separable data give finite figures.
PRIOR = np.diag([1e-3, 1e-6])
LARGEST_STEP = 5.0  # of Newton's method, so that it cannot overshoot into saturation
SMALLEST_SLOPE = 1e-3  # a network worse than chance must not have its answers reversed


def scores(codes: Array, grid: Range, kind: OutputKind) -> Array:
    """Logits float64 [n, k] of output codes int8 [n, k].

    For a file that ends in SOFTMAX they are log p, where a code of zero counts as half a step.
    """
    real = (codes.astype(np.float64) - grid.zero_point) * grid.scale
    if kind == OutputKind.PROBABILITIES:
        return np.log(np.maximum(real, PROBABILITY_STEP / 2))
    return real


def negative_log_likelihood(logits: Array, labels: Array) -> float:
    """Mean of -log p(label), in nats."""
    shifted = logits - logits.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]).mean())


def fit_temperature(logits: Array, labels: Array) -> float:
    """The T > 0 that maximises the likelihood of softmax(logits / T).

    Guo et al. 2017, arXiv 1706.04599, section 4.2. The likelihood is concave in 1/T, so a
    golden-section search over log T finds its only maximum.
    """
    low, high = (math.log(value) for value in TEMPERATURES)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(SEARCH_STEPS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if negative_log_likelihood(logits / math.exp(left), labels) < negative_log_likelihood(
            logits / math.exp(right), labels
        ):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def calibration_error(p: Array, labels: Array) -> float:
    """Expected calibration error of probabilities [n, k], over BINS equal bins.

    The mean of |accuracy - confidence|, each bin weighted by its share of the images.
    """
    return float(
        sum(row.share * abs(row.accuracy - row.confidence) for row in reliability(p, labels))
    )


def debiased_error(p: Array, labels: Array) -> float:
    """The calibration error less an estimate of what chance adds to it in bins of few images.

    A bin's gap g is measured with a standard error s = sqrt(a (1 - a) / n), where a is the bin's
    accuracy. |g| is then too large by about E|N(g, s)| - |g|. Kumar, Liang and Ma 2019
    (arXiv 1909.10155) draw from that normal; here its mean is in closed form. The estimate does not
    remove all of it: right probabilities still show about 0.6 of the floor. Never below zero.
    """
    total = 0.0
    for row in reliability(p, labels):
        gap = abs(row.accuracy - row.confidence)
        error = math.sqrt(row.accuracy * (1 - row.accuracy) / (row.share * len(labels)))
        total += row.share * (2 * gap - _folded_normal(gap, error))
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
    """The calibration error that right probabilities [n, k] show on so few images.

    The mean over labels drawn from p itself. It is above zero because an error is never negative,
    so errors do not average out.
    """
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(FLOOR_DRAWS):
        labels = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
        drawn.append(calibration_error(p, labels))
    return float(np.mean(drawn))


def reliability(p: Array, labels: Array) -> list[ReliabilityBin]:
    """The bins of a reliability plot that hold images, lowest confidence first."""
    top, right = p.max(1), p.argmax(1) == labels
    place = np.minimum((top * BINS).astype(int), BINS - 1)
    rows = []
    for number in range(BINS):
        chosen = place == number
        if chosen.any():
            rows.append(
                ReliabilityBin(
                    low=number / BINS,
                    high=(number + 1) / BINS,
                    share=float(chosen.mean()),
                    confidence=float(top[chosen].mean()),
                    accuracy=float(right[chosen].mean()),
                )
            )
    return rows


def conformal_threshold(p: Array, labels: Array, coverage: float) -> float:
    """The t for which {k: p_k >= t} holds a new image's label with probability >= `coverage`.

    Split conformal prediction with the score 1 - p(label) (Sadinle et al. 2019, arXiv 1609.00451):
    t is the floor((n + 1) * (1 - coverage))-th smallest p(label) of n held-out images. It is 0
    (every label is in the set) when n is too small. The promise holds only for images drawn from
    the same distribution as the held-out ones.
    """
    own = np.sort(p[np.arange(len(labels)), labels])
    # 1e-9: 10 * (1 - 0.9) is 0.9999999999999998
    rank = math.floor((len(labels) + 1) * (1 - coverage) + 1e-9)
    return max(float(own[rank - 1]) - MARGIN, 0.0) if rank >= 1 else 0.0


def conformal_thresholds(p: Array, labels: Array, coverage: float, classes: int) -> list[float]:
    """A threshold for each class, so that the promise holds in each class and not only on average.

    Class-conditional (Mondrian) split conformal prediction (Vovk 2012, arXiv 1209.2673). A class
    with fewer than OWN_THRESHOLD images takes the threshold of all images, as rare classes do in
    Ding et al. 2023 (arXiv 2306.09335).
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
    """Whether each set is exactly one label, bool [n]. No label, or several, is "unsure"."""
    return sets.sum(1) == 1


def fit_sigmoid(logits: Array, labels: Array) -> tuple[float, float]:
    """(slope, offset) of 1 / (1 + exp(-(slope * logit + offset))), the same for all classes.

    Platt 1999. The score calibration of TFLite Metadata looks at one output at a time, so it
    cannot express temperature scaling; this is the nearest that it can. One slope above zero for
    all classes keeps the order of the answers.
    """
    return platt(
        logits.reshape(-1),
        (np.arange(logits.shape[1])[None] == labels[:, None]).reshape(-1).astype(np.float64),
    )


def platt(x: Array, y: Array) -> tuple[float, float]:
    """(slope, offset) that maximise the likelihood of 1 / (1 + exp(-(slope * x + offset))).

    x: float64 [n]; y: the outcomes, 0 to 1, float64 [n]. Newton's method with a weak prior.
    """
    spread = float(x.std()) or 1.0
    design = np.stack([x / spread, np.ones_like(x)], 1)
    weights = np.array([1.0, 0.0])
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -40, 40)))
        gradient = design.T @ (p - y) / len(y) + PRIOR @ weights
        hessian = (design * (p * (1 - p))[:, None]).T @ design / len(y) + PRIOR
        step = np.linalg.solve(hessian, gradient)
        weights = weights - step * min(1.0, LARGEST_STEP / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-10:
            break
    slope = max(float(weights[0]), SMALLEST_SLOPE)
    return slope / spread, float(weights[1])


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What was fitted on `n` validation images: see `confidence_record.ClassConfidence`."""

    kind: OutputKind
    temperature: float
    coverage: float
    thresholds: list[float]
    sigmoid: Sigmoid
    n: int


def fit(
    codes: Array,
    labels: Array,
    grid: Range,
    kind: OutputKind,
    coverage: float,
    *,
    answered: bool = False,
) -> Fitted:
    """Fit temperature, thresholds and sigmoid to validation answers.

    `codes`: int8 [n, k]; `labels`: int64 [n]; `grid`: of the output tensor. `answered`: the labels
    are the float network's own answers. They say nothing about how often it is right, and a
    temperature fitted to them would make every answer look sure, so its softmax stays as it is.
    """
    logits = scores(codes, grid, kind)
    temperature = 1.0 if answered else fit_temperature(logits, labels)
    p = probabilities(logits / temperature)
    if answered:
        slope, offset = platt(logits.reshape(-1), p.reshape(-1))
    else:
        slope, offset = fit_sigmoid(logits, labels)
    thresholds = conformal_thresholds(p, labels, coverage, logits.shape[1])
    return Fitted(kind, temperature, coverage, thresholds, Sigmoid(slope, offset), len(labels))


def judge(fitted: Fitted, codes: Array, labels: Array, grid: Range) -> ClassTest:
    """What the fitted figures are worth on other images, such as those of the test split."""
    logits = scores(codes, grid, fitted.kind)
    before, p = probabilities(logits), probabilities(logits / fitted.temperature)
    sets = prediction_sets(p, fitted.thresholds)
    held, clear = sets[np.arange(len(labels)), labels], sure(sets)
    right = p.argmax(1) == labels
    sizes = np.bincount(sets.sum(1), minlength=logits.shape[1] + 1)
    return ClassTest(
        n=len(labels),
        ece=CalibrationError(
            before=calibration_error(before, labels),
            after=calibration_error(p, labels),
            debiased_before=debiased_error(before, labels),
            debiased_after=debiased_error(p, labels),
            floor=calibration_floor(p),
            bins=BINS,
        ),
        nll=BeforeAfter(
            before=negative_log_likelihood(logits, labels),
            after=negative_log_likelihood(logits / fitted.temperature, labels),
        ),
        coverage=float(held.mean()),
        coverage_ci95=wilson(float(held.mean()), len(labels)),
        coverage_by_class=[
            ClassCoverage(int(own.sum()), float(held[own].mean()) if own.any() else None)
            for own in (labels == k for k in range(logits.shape[1]))
        ],
        set_sizes={str(size): int(count) for size, count in enumerate(sizes) if count},
        unsure=float((~clear).mean()),
        accuracy=float(right.mean()),
        accuracy_when_sure=float(right[clear].mean()) if clear.any() else None,
        reliability=Reliability(reliability(before, labels), reliability(p, labels)),
    )


def record(fitted: Fitted, test: ClassTest, grid: Range) -> ClassConfidence:
    """confidence.json's record of a fit, and of what it is worth on the test images."""
    known: dict[OutputKind, type[LogitConfidence | ProbabilityConfidence]] = {
        OutputKind.LOGITS: LogitConfidence,
        OutputKind.PROBABILITIES: ProbabilityConfidence,
    }
    return known[fitted.kind](
        output=OutputGrid(grid.scale, grid.zero_point),
        temperature=fitted.temperature,
        coverage=fitted.coverage,
        thresholds=fitted.thresholds,
        sigmoid=fitted.sigmoid,
        fitted_on=FittedOn("val", fitted.n),
        test=test,
    )
