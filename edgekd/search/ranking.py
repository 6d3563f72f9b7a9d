"""Which candidates go on, and which are built: an order by score, and by what the user prefers."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from edgekd.search.candidate import Candidate
from edgekd.search.forecast import Forecast
from edgekd.search.limits import Objective


@dataclasses.dataclass(frozen=True)
class Scored:
    """A candidate with its score on the validation images.

    `value`: ranks, higher is better. `top1`: share of right answers. `rung`: where it was scored.
    `cost`: what the objective makes small, in its own unit; 0 where accuracy is the objective.
    """

    candidate: Candidate
    value: float
    top1: float
    rung: int = 0
    cost: float = 0.0


def cost(forecast: Forecast, objective: Objective) -> float:
    """What an objective makes small: the predicted latency, or the size."""
    if objective is Objective.LATENCY:
        return float("inf") if forecast.latency_ms is None else forecast.latency_ms
    return float(forecast.size_bytes) if objective is Objective.SIZE else 0.0


def by_promise(scored: Sequence[Scored]) -> list[Scored]:
    """The order in which candidates at a rung go on.

    Those that no other beats in both score and cost come first, then those that only these beat,
    and so on; among equals the higher score comes first. Without costs this is the order by score.
    """
    rest, found = sorted(scored, key=_best), list[Scored]()
    while rest:
        front = [one for one in rest if not any(_beats(other, one) for other in rest)]
        found += front
        rest = [one for one in rest if one not in front]
    return found


def for_building(
    scored: Sequence[Scored], objective: Objective, least_top1: float | None, whole: int
) -> list[Scored]:
    """The order in which candidates are built.

    Those that were trained longest come first. Of these, first those that keep `least_top1`, what
    the user lets a network lose against the teacher: by score, or by cost if that is the objective.
    Then the others by their top-1, since they miss it least. A network that was not trained to the
    end, at the rung `whole`, is not held to `least_top1`: it may still get there.
    """

    def place(one: Scored) -> tuple[float, ...]:
        missed = least_top1 is not None and one.rung >= whole and one.top1 < least_top1
        if missed:
            return -one.rung, 1, -one.top1, one.cost
        if objective is Objective.ACCURACY:
            return -one.rung, 0, -one.value, one.cost
        return -one.rung, 0, one.cost, -one.value

    return sorted(scored, key=lambda one: (place(one), one.candidate))


def _best(one: Scored) -> tuple[float, float, Candidate]:
    return -one.value, one.cost, one.candidate


def _beats(other: Scored, one: Scored) -> bool:
    """Whether `other` is at least as good in both, and better in one."""
    at_least = other.value >= one.value and other.cost <= one.cost
    return at_least and (other.value > one.value or other.cost < one.cost)


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's rank correlation, where equal values share their mean rank.

    None where all values of a side are equal.
    """
    first, second = _ranks(one), _ranks(other)
    try:
        return statistics.correlation(first, second)
    except statistics.StatisticsError:
        return None


def _ranks(values: Sequence[float]) -> list[float]:
    """The place of each value among all, from 0, with half places for ties."""
    return [
        sum(other < value for other in values) + (values.count(value) - 1) / 2 for value in values
    ]
