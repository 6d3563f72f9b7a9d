"""A published latency model, brought to somebody's own device with a few measurements.

Two ways, both on measurements of different networks on that device:

* **A factor** keeps the model's coefficients, and multiplies them by the geometric mean of measured
  over fitted. One number, so FEWEST networks are enough to know it and its spread.
* **Coefficients** are fitted again, with the published ones as a prior (fit.py).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import msgspec

from edgekd.assessment.latency.fit import Prior, Row, fit, held_out, networks
from edgekd.assessment.latency.intervals import student_halfwidth
from edgekd.assessment.latency.model import Conditions, Errors, LatencyModel, measured_factor

FEWEST = 3  # networks: with two, the 90 % interval of a factor is 11 deviations wide
ENOUGH = 8  # networks: from here on the coefficients are fitted
# Weights of the prior that are tried by leaving one network out.
WEIGHTS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


@dataclasses.dataclass(frozen=True)
class Own:
    """A model of the own device. `prior_weight`: how many rows the prior counts for, None for a
    factor alone.
    """

    model: LatencyModel
    prior_weight: float | None


def fitted(rows: Sequence[Row], start: LatencyModel | None, at: Conditions, precision: str) -> Own:
    """The model of the device that `rows` were measured on, under the conditions `at`.

    `start`: the published model, None where there is none. With fewer than ENOUGH networks there is
    a factor alone: nine coefficients that were fitted to four to seven networks, one of which has
    an unusual operator, were seen to be wrong by a factor of 5 on the others.
    """
    if start is None:
        return Own(_coefficients(rows, None, at, precision), 0.0)
    if max(networks(rows)) + 1 < ENOUGH:
        return Own(_factor(rows, start, at), None)
    weight = min(WEIGHTS, key=lambda one: _wrong(rows, _with_prior(start, one)))
    return Own(_coefficients(rows, _with_prior(start, weight), at, precision), weight)


def _with_prior(start: LatencyModel, weight: float) -> Prior:
    return Prior(start.coefficients, weight)


def _wrong(rows: Sequence[Row], prior: Prior) -> float:
    """Mean absolute log-error of networks that the fit did not see."""
    logs = held_out(rows, networks(rows), prior)
    return sum(abs(log) for log in logs) / len(logs)


def _coefficients(
    rows: Sequence[Row], prior: Prior | None, at: Conditions, precision: str
) -> LatencyModel:
    made = fit(rows, at.board, at.runtime_words, at.threads, precision, prior=prior)
    return msgspec.structs.replace(made, conditions=at)


def _factor(rows: Sequence[Row], start: LatencyModel, at: Conditions) -> LatencyModel:
    """The published model times the factor of the rows."""
    by_network = _ratios(rows, start)
    factor = measured_factor(
        "the device and runtime that were measured",
        by_network,
        tuple(dict.fromkeys(row.source for row in rows)),
    )
    factor = msgspec.structs.replace(factor, counted="networks measured there")
    logs = _factor_logs(rows, start)
    shares = [abs(1 - math.exp(-log)) for log in logs]
    return msgspec.structs.replace(
        start,
        factors=(factor,),
        conditions=at,
        by_threads=msgspec.UNSET,
        errors=Errors(
            sum(shares) / len(shares), max(shares), None, _coverage(rows, start, start.near)
        ),
    )


def _ratios(rows: Sequence[Row], start: LatencyModel) -> dict[str, float]:
    """{network: measured over fitted}; the geometric mean of a network measured several times."""
    bare = msgspec.structs.replace(start, factors=())
    logs: dict[int, list[float]] = {}
    names: dict[int, str] = {}
    for number, row in zip(networks(rows), rows, strict=True):
        names.setdefault(number, row.model)
        logs.setdefault(number, []).append(math.log(row.latency_ms / bare.cost(row.features)))
    return {names[number]: math.exp(sum(found) / len(found)) for number, found in logs.items()}


def _each_left_out(rows: Sequence[Row], start: LatencyModel) -> list[tuple[float, list[float]]]:
    """For each network: its log-ratio, and those of the other networks."""
    logs = [math.log(ratio) for ratio in _ratios(rows, start).values()]
    return [(log, logs[:place] + logs[place + 1 :]) for place, log in enumerate(logs)]


def _factor_logs(rows: Sequence[Row], start: LatencyModel) -> list[float]:
    """log(measured / predicted) of each network, by the factor of the others."""
    return [log - sum(rest) / len(rest) for log, rest in _each_left_out(rows, start)]


def _coverage(rows: Sequence[Row], start: LatencyModel, near: float) -> float:
    """Share of networks in the 90 % interval that the others give."""
    held = []
    for log, rest in _each_left_out(rows, start):
        mean = sum(rest) / len(rest)
        width = math.hypot(near, student_halfwidth([other - mean for other in rest]))
        held.append(abs(log - mean) <= width)
    return sum(held) / len(held)
