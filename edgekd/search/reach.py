"""Which candidates can keep the limits at all, and what the others miss.

A candidate is dropped before training where it cannot keep a limit even at the favourable end of
its interval.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import math
from collections.abc import Iterable

from edgekd.search.candidate import Candidate
from edgekd.search.forecast import Forecast
from edgekd.search.limits import Limits


class Reason(enum.StrEnum):
    """Why a candidate is dropped before training."""

    OPERATORS = "operators"  # the device does not run all that the profile asks for
    MEMORY = "memory"
    SIZE = "size"
    LATENCY = "latency"


@dataclasses.dataclass(frozen=True)
class Miss:
    """A limit that a candidate cannot keep.

    `found`: the least that it takes, and `allowed`: the most that it may, in milliseconds or in
    bytes. Both are None where the device refuses it; `why` says why in words.
    """

    reason: Reason
    why: str
    found: float | None = None
    allowed: float | None = None

    @property
    def times(self) -> float:
        """How many times too much it takes, above 1; infinite where the device refuses it."""
        if self.found is None or not self.allowed:
            return math.inf
        return self.found / self.allowed


@dataclasses.dataclass(frozen=True)
class Dropped:
    """A candidate that cannot keep the limits, and every limit that it misses."""

    forecast: Forecast
    misses: tuple[Miss, ...]

    @property
    def worst(self) -> Miss:
        """The miss that is furthest from its limit."""
        return max(self.misses, key=lambda miss: miss.times)


@dataclasses.dataclass(frozen=True)
class Reach:
    """`within`: the candidates that may keep every limit. `dropped`: the others. In the order of
    the forecasts.
    """

    within: tuple[Forecast, ...]
    dropped: tuple[Dropped, ...]

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates within reach."""
        return tuple(forecast.candidate for forecast in self.within)

    def counts(self) -> dict[Reason, int]:
        """How many candidates were dropped for each reason, each counted by its worst miss."""
        found = collections.Counter(one.worst.reason for one in self.dropped)
        return {reason: found[reason] for reason in Reason if found[reason]}

    def nearest(self, most: int = 3) -> tuple[Dropped, ...]:
        """The dropped candidates that miss the limits by least, the nearest first."""
        return tuple(sorted(self.dropped, key=_distance)[:most])


def _distance(one: Dropped) -> tuple[float, float, float]:
    """By the worst miss; of those that are refused, by what they take."""
    latency = one.forecast.low_ms
    return (
        one.worst.times,
        sum(miss.times for miss in one.misses),
        math.inf if latency is None else latency,
    )


def within(forecasts: Iterable[Forecast], limits: Limits) -> Reach:
    """Sort forecasts of one device into those that may keep the limits and those that cannot.

    A latency that is not known keeps every limit.
    """
    kept, dropped = [], []
    for forecast in forecasts:
        misses = tuple(_misses(forecast, limits))
        if misses:
            dropped.append(Dropped(forecast, misses))
        else:
            kept.append(forecast)
    return Reach(tuple(kept), tuple(dropped))


def _misses(forecast: Forecast, limits: Limits) -> Iterable[Miss]:
    operators = [why for why in forecast.refused if why not in forecast.too_large]
    if operators:
        yield Miss(Reason.OPERATORS, operators[0])
    if forecast.too_large:
        yield Miss(Reason.MEMORY, forecast.too_large[0])
    measured = (
        (Reason.LATENCY, forecast.low_ms, limits.latency_ms, _milliseconds),
        (Reason.SIZE, forecast.size_bytes, limits.size_bytes, _bytes),
        (Reason.MEMORY, forecast.memory_bytes, limits.memory_bytes, _bytes),
    )
    for reason, found, allowed, text in measured:
        if found is not None and allowed is not None and found > allowed:
            best = " at best" if reason is Reason.LATENCY else ""
            why = f"{reason} {text(found)}{best}, at most {text(allowed)} allowed"
            yield Miss(reason, why, found, allowed)


def _milliseconds(value: float) -> str:
    return f"{value:.3g} ms"


def _bytes(value: float) -> str:
    """Bytes in the unit in which a limit is given."""
    return f"{value / 1e6:.3g} MB" if value >= 1e6 else f"{value / 1e3:.3g} kB"
