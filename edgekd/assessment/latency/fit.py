"""Fit a latency model to measured networks, and find out how wrong it is on networks not seen.

    minimise  sum_i (t_i / y_i - 1)^2   over   c_j >= 0,   where  t = sum_j c_j x_j

`y` are measured milliseconds. The loss is relative, so that a network of 2 ms weighs as much as one
of 90 ms. Each `c_j` has a meaning (nanoseconds a MAC, a byte, an operator), which is why none may
be negative.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from edgekd.assessment.latency.intervals import halfwidth
from edgekd.assessment.latency.model import Errors, Factor, LatencyModel
from edgekd.assessment.latency.nonnegative import Array, nnls
from edgekd.assessment.workload import MAC_CLASSES

FOLDS = 5
SHUFFLES = 20  # how often the networks are dealt out to folds anew when the errors are estimated
# How much wider the interval of a foreign network is where there is no second family to learn it
# from: our own choice.
OUTSIDE_WIDENING = 1.5


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement.

    `family`: the architecture; whole families are left out in turn. `features`: {feature: amount}.
    `source`: where the figure comes from.
    """

    model: str
    family: str
    features: Mapping[str, float]
    latency_ms: float
    source: str


@dataclasses.dataclass(frozen=True)
class Prior:
    """Coefficients of another device as a starting point. `weight`: how many rows it counts for."""

    coefficients: Mapping[str, float]
    weight: float


def _design(rows: Sequence[Row]) -> tuple[Array, Array]:
    """(features [n, k] in the order of the first row's, milliseconds [n])."""
    return (
        np.array([[row.features[name] for name in rows[0].features] for row in rows], np.float64),
        np.array([row.latency_ms for row in rows], np.float64),
    )


def solve(rows: Sequence[Row], prior: Prior | None = None) -> Array:
    """The coefficients [k] of the fit, in milliseconds a unit, in the order of the features.

    With a `prior`, its coefficients are first scaled by one number to fit the rows. Each feature
    then has one more equation that pulls it there, weighted by its mean share of the rows' time.
    A class of MACs that no row holds takes the coefficient of the scaled prior, or that of
    pointwise MACs, because the fit alone would call it free.
    """
    matrix, times = _design(rows)
    relative: Array = matrix / times[:, None]
    target: Array = np.ones(len(rows))
    names = list(rows[0].features)
    start: Array = np.zeros(len(names))
    if prior is not None:
        start = np.array([prior.coefficients.get(name, 0.0) for name in names])
        start = start * float(np.exp(-np.mean(np.log(np.maximum(relative @ start, 1e-12)))))
        pull = math.sqrt(prior.weight) * relative.mean(axis=0)
        relative, target = (
            np.vstack([relative, np.diag(pull)]),
            np.concatenate([target, pull * start]),
        )
    found = nnls(relative, target)
    for name in _unseen(rows):
        column = names.index(name)
        found[column] = start[column] or found[names.index("pointwise")]
    return found


def _unseen(rows: Sequence[Row]) -> list[str]:
    """Classes of MACs that no row holds."""
    known = rows[0].features
    return [
        name
        for name in MAC_CLASSES
        if {name, "pointwise"} <= known.keys() and not any(row.features[name] for row in rows)
    ]


def held_out(
    rows: Sequence[Row], groups: Sequence[int] | Sequence[str], prior: Prior | None = None
) -> list[float]:
    """log(measured / predicted) of each row, predicted by a fit that has not seen its group.

    `groups`: the group of each row.
    """
    matrix, times = _design(rows)
    logs = np.zeros(len(rows))
    for group in set(groups):
        test = np.array([other == group for other in groups])
        coefficients = solve([row for row, out in zip(rows, test, strict=True) if not out], prior)
        logs[test] = np.log(times[test] / np.maximum(matrix[test] @ coefficients, 1e-9))
    return [float(value) for value in logs]


def networks(rows: Sequence[Row]) -> list[int]:
    """A number for each row, equal for rows of one network.

    A network that was measured twice must not predict itself.
    """
    numbers: dict[tuple[float, ...], int] = {}
    return [numbers.setdefault(tuple(row.features.values()), len(numbers)) for row in rows]


def folds(rows: Sequence[Row], seed: int) -> list[int]:
    """A fold for each row: the networks are shuffled and dealt out to FOLDS folds in turn.

    There are fewer folds where there are fewer networks.
    """
    groups = networks(rows)
    count = max(groups) + 1
    dealt = np.arange(count) % min(FOLDS, count)
    np.random.default_rng(seed).shuffle(dealt)
    return [int(dealt[group]) for group in groups]


def errors(rows: Sequence[Row], prior: Prior | None = None, seeds: int = SHUFFLES) -> Errors:
    """Errors over `seeds` shuffles into FOLDS folds.

    The coverage is nested: the interval of each fold comes from the other folds alone.
    """
    shares, covered = [], []
    for seed in range(seeds):
        groups = folds(rows, seed)
        logs = held_out(rows, groups, prior)
        shares += [abs(1 - math.exp(-log)) for log in logs]
        for fold in sorted(set(groups)):
            rest = [row for row, group in zip(rows, groups, strict=True) if group != fold]
            inner = held_out(rest, folds(rest, seed), prior)
            width = halfwidth(inner)
            covered += [
                abs(log) <= width for log, group in zip(logs, groups, strict=True) if group == fold
            ]
    across = _across_families(rows, prior)
    return Errors(
        sum(shares) / len(shares),
        max(shares),
        sum(abs(1 - math.exp(-log)) for log in across) / len(across) if across else None,
        sum(covered) / len(covered),
    )


def _across_families(rows: Sequence[Row], prior: Prior | None) -> list[float]:
    """`held_out` with each family left out in turn, empty with a single family."""
    families = [row.family for row in rows]
    return held_out(rows, families, prior) if len(set(families)) > 1 else []


def fit(
    rows: Sequence[Row],
    device: str,
    runtime: str,
    threads: int,
    precision: str,
    *,
    prior: Prior | None = None,
    factors: Sequence[Factor] = (),
) -> LatencyModel:
    """The latency model of a set of rows. Raises ValueError with fewer than 2 rows."""
    if len(rows) < 2:
        raise ValueError(f"{len(rows)} rows; at least 2 are needed, and 8 for a useful interval")
    coefficients = solve(rows, prior)
    near = halfwidth(held_out(rows, networks(rows), prior))
    across = _across_families(rows, prior)
    far = max(halfwidth(across), near) if across else near * OUTSIDE_WIDENING
    names = list(rows[0].features)
    matrix, times = _design(rows)
    parts = matrix * coefficients
    shares = parts / parts.sum(axis=1, keepdims=True)
    return LatencyModel(
        device=device,
        runtime=runtime,
        threads=threads,
        precision=precision,
        rows=len(rows),
        families=tuple(sorted({row.family for row in rows})),
        coefficients={name: float(value) for name, value in zip(names, coefficients, strict=True)},
        unseen=tuple(_unseen(rows)),
        near=near,
        far=far,
        shares={
            name: (float(column.min()), float(column.max()))
            for name, column in zip(names, shares.T, strict=True)
        },
        span=(float(times.min()), float(times.max())),
        errors=errors(rows, prior),
        factors=tuple(factors),
    )
