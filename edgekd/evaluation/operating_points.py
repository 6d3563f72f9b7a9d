"""Thresholds chosen on validation images, and what they give on test images. numpy only.

`p` is the probability of one finding, float64 [n]; `positive` is bool [n]. A threshold lies halfway
between two neighbouring probabilities of the validation images, so that rounding on a device cannot
decide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgekd.core.intervals import Z95, Interval, wilson
from edgekd.evaluation.medical_record import (
    Calibration,
    OperatingPoint,
    PointRule,
    ProbabilityBin,
    Rate,
)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

BINS = 10  # of the table of probabilities: tenths are easy to read, and hold more images than 15
FLOOR_DRAWS = 50  # as in conformal
BISECTIONS = 50  # halvings of an interval: then it is exact to the last digit
# A target is reached although rounding may leave a share a hair below it.
SLACK = 1e-9


@dataclasses.dataclass(frozen=True)
class Cuts:
    """The thresholds that tell validation images apart, rising, with what each gives there."""

    thresholds: Floats
    sensitivity: Floats
    specificity: Floats


def cuts(p: Floats, positive: Bools) -> Cuts:
    """All thresholds between two neighbouring probabilities, and one on each side of all.

    Both kinds of image have to be there.
    """
    levels, where = np.unique(p, return_inverse=True)
    ups = np.bincount(where, positive, len(levels))
    downs = np.bincount(where, ~positive, len(levels))
    # of the images at or above each level, and none above the last
    above = np.append(ups[::-1].cumsum()[::-1], 0)
    below = np.append(0, downs.cumsum())
    between = (levels[1:] + levels[:-1]) / 2
    ends = levels[0] / 2, (levels[-1] + 1) / 2
    return Cuts(
        np.concatenate([[ends[0]], between, [ends[1]]]), above / ups.sum(), below / downs.sum()
    )


def choose(found: Cuts, rule: PointRule, target: float | None) -> int:
    """The index of the threshold that the rule chooses.

    Of several that are equally good by Youden's index it is the middle one.
    """
    if rule == PointRule.SENSITIVITY:
        return int(np.flatnonzero(found.sensitivity >= (target or 0.0) - SLACK)[-1])
    if rule == PointRule.SPECIFICITY:
        return int(np.flatnonzero(found.specificity >= (target or 0.0) - SLACK)[0])
    index = found.sensitivity + found.specificity
    best = np.flatnonzero(index >= index.max() - SLACK)
    return int(best[len(best) // 2])


def point(
    rule: PointRule,
    target: float | None,
    threshold: float,
    validation: tuple[Floats, Bools],
    test: tuple[Floats, Bools],
) -> OperatingPoint:
    """What a threshold gives. `validation` and `test`: (p, positive) of both splits."""
    said, has = test[0] >= threshold, test[1]
    own, truth = validation[0] >= threshold, validation[1]
    return OperatingPoint(
        rule=rule,
        target=target,
        threshold=threshold,
        validation_sensitivity=float(own[truth].mean()),
        validation_specificity=float((~own[~truth]).mean()),
        sensitivity=rate(said[has]),
        specificity=rate(~said[~has]),
        ppv=rate(has[said]),
        npv=rate(~has[~said]),
    )


def rate(hits: Bools) -> Rate:
    """The share of True, with its score interval (Wilson 1927)."""
    if not len(hits):
        return Rate(None, 0, None)
    share = float(hits.mean())
    return Rate(share, len(hits), wilson(share, len(hits)))


def auc_interval(area: float, positives: int, negatives: int) -> Interval:
    """95 % interval of an AUC, which leaves room even where the AUC is 0 or 1 and images are few.

    The score interval of Newcombe 2006 (Statistics in Medicine 25(4), 559-573, method 5), which is
    to the AUC what Wilson's is to a share. Its ends are the areas A with |area - A| = z * s(A),
    where s(A)^2 = A (1 - A) (1 + N (1 - A) / (2 - A) + N A / (1 + A)) / (positives * negatives) and
    N = (positives + negatives) / 2 - 1 (after Hanley and McNeil 1982).
    """
    half = (positives + negatives) / 2 - 1

    def reaches(other: float) -> bool:
        bracket = 1 + half * (1 - other) / (2 - other) + half * other / (1 + other)
        variance = other * (1 - other) * bracket / (positives * negatives)
        return (area - other) ** 2 <= Z95**2 * variance

    return _edge(area, 0.0, reaches), _edge(area, 1.0, reaches)


def _edge(inside: float, outside: float, holds: Callable[[float], bool]) -> float:
    """Where `holds` ends between a value for which it holds and one beyond, by bisection."""
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside


def calibration(p: Floats, positive: Bools, seed: int = 0) -> Calibration:
    """The table of probabilities over BINS equal bins, its error, and the Brier score."""
    rng = np.random.default_rng(seed)
    drawn = [_error(p, rng.random(len(p)) < p) for _ in range(FLOOR_DRAWS)]
    return Calibration(
        ece=_error(p, positive),
        floor=float(np.mean(drawn)),
        brier=float(np.square(p - positive).mean()),
        bins=_bins(p, positive),
    )


def _error(p: Floats, positive: Bools) -> float:
    """The mean of |share of positives - mean probability|, each bin weighted by its images."""
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    gaps = np.bincount(place, positive - p, BINS)
    return float(np.abs(gaps).sum() / len(p))


def _bins(p: Floats, positive: Bools) -> list[ProbabilityBin]:
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    rows = []
    for number in range(BINS):
        own = place == number
        if own.any():
            share = float(positive[own].mean())
            rows.append(
                ProbabilityBin(
                    low=number / BINS,
                    high=(number + 1) / BINS,
                    n=int(own.sum()),
                    probability=float(p[own].mean()),
                    observed=share,
                    observed_ci95=wilson(share, int(own.sum())),
                )
            )
    return rows
