"""Pareto fronts of points with intervals: which are worth having, as far as one can tell.

A point dominates another when it is at least as accurate and at least as fast, and better in one of
the two. The front holds the points that no other dominates.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from edgekd.core import intervals
from edgekd.core.intervals import Interval


class Standing(enum.StrEnum):
    """Where a point is, beside the front."""

    ON = "on"  # no other point is as accurate and as fast
    WITHIN_CHANCE = "within chance"  # others are, but the intervals cannot tell
    BEHIND = "behind"


@dataclasses.dataclass(frozen=True)
class Point:
    """A candidate in the plane: a score, of which more is better, and a latency, each with bounds.

    A figure without an interval has itself as both bounds.
    """

    score: float
    score_ci: Interval
    latency: float
    latency_ci: Interval

    def dominates(self, other: Point) -> bool:
        """Whether this point is as good in both figures and better in one."""
        return (
            self.score >= other.score
            and self.latency <= other.latency
            and (self.score > other.score or self.latency < other.latency)
        )

    def surely_dominates(self, other: Point) -> bool:
        """Whether it dominates, and the intervals leave no doubt about either figure.

        Equal latencies with equal bounds leave none: candidates of one network have one forecast.
        """
        same = (self.latency, self.latency_ci) == (other.latency, other.latency_ci)
        return (
            self.dominates(other)
            and _no_less(self.score, self.score_ci, other.score, other.score_ci)
            and (same or _no_less(other.latency, other.latency_ci, self.latency, self.latency_ci))
        )


def _no_less(one: float, one_ci: Interval, other: float, other_ci: Interval) -> bool:
    """Whether `one` is no less than `other`, beyond chance."""
    return intervals.difference(other, other_ci, one, one_ci)[0] >= 0


def standings(points: Sequence[Point]) -> list[Standing]:
    """Where each point is, beside the front of all of them.

    A point is within chance of the front when others dominate it, but none beyond doubt: the
    difference in score or in latency may be zero. The intervals of `intervals.difference` are used,
    which are too wide where two latencies of one device err alike. So a point that is behind is
    behind, while one within chance may be.
    """
    return [_standing(point, points) for point in points]


def _standing(point: Point, points: Sequence[Point]) -> Standing:
    above = [other for other in points if other.dominates(point)]
    if not above:
        return Standing.ON
    if any(other.surely_dominates(point) for other in above):
        return Standing.BEHIND
    return Standing.WITHIN_CHANCE
