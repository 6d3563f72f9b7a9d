"""Pareto fronts of candidates: which are worth having, and which may be, as far as one can tell.

A point dominates another when it is at least as accurate and at least as fast, and better in one of
the two. The front holds the points that no other dominates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import msgspec

from edgekd.core import intervals
from edgekd.core.intervals import Interval
from edgekd.search.record import (
    FinalistRow,
    FrontBasis,
    FrontPoint,
    FrontRow,
    Latency,
    ScoreKind,
    Search,
    Source,
    Standing,
    TrialRow,
)


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


def fronts(search: Search) -> list[FrontRow]:
    """The front on each device that the search asked for.

    Of the finalists, or before there is one, of the candidates at the last rung. Candidates without
    a score or a latency are left out, and so is a device on which none has both.
    """
    finalists = [row for row in search.finalists if _score(row, search.score) is not None]
    found = []
    for profile in (search.request.profile, *search.request.also):
        if finalists:
            basis, points = FrontBasis.FINALISTS, _finalists(finalists, profile, search.score)
        else:
            basis, points = FrontBasis.TRIALS, _trials(search, profile)
        if points:
            found.append(FrontRow(profile, basis, placed(points)))
    return found


def placed(points: Sequence[FrontPoint]) -> list[FrontPoint]:
    """The points with their standing, fastest first."""
    known = standings(
        [
            Point(row.score, row.score_ci95, row.latency_ms, (row.low_ms, row.high_ms))
            for row in points
        ]
    )
    rows = [
        msgspec.structs.replace(row, standing=standing)
        for row, standing in zip(points, known, strict=True)
    ]
    return sorted(rows, key=lambda row: (row.latency_ms, -row.score, row.candidate))


def _finalists(rows: Sequence[FinalistRow], profile: str, kind: ScoreKind) -> list[FrontPoint]:
    points = []
    for row in rows:
        latency, score = row.latency(profile), _score(row, kind)
        if latency is not None and score is not None:
            points.append(_point(row.candidate, *score, latency))
    return points


def _score(row: FinalistRow, kind: ScoreKind) -> tuple[float, Interval | None] | None:
    """The figure that ranks, with its interval."""
    if kind is ScoreKind.AUC:
        return None if row.auc is None else (row.auc, row.auc_ci95)
    return None if row.top1 is None else (row.top1, row.top1_ci95)


def _trials(search: Search, profile: str) -> list[FrontPoint]:
    """The candidates with a score at the last rung that has any, with their forecasts."""
    scored = [row for row in search.trials if row.score is not None]
    last = max((row.rung for row in scored), default=0)
    points = []
    for row in scored:
        latency = _forecast(search, row, profile)
        if row.rung == last and row.score is not None and latency is not None:
            points.append(_point(row.candidate, row.score, row.score_ci95, latency))
    return points


def _forecast(search: Search, trial: TrialRow, profile: str) -> Latency | None:
    """The predicted latency of a trial's candidate."""
    candidate = search.candidate(trial.candidate)
    row = None if candidate is None else candidate.on(profile)
    if row is None or row.latency_ms is None:
        return None
    return Latency(
        profile=profile,
        source=Source.PREDICTED,
        latency_ms=row.latency_ms,
        low_ms=row.low_ms,
        high_ms=row.high_ms,
        basis=row.basis,
    )


def _point(candidate: str, score: float, score_ci: Interval | None, latency: Latency) -> FrontPoint:
    value = latency.latency_ms
    return FrontPoint(
        candidate=candidate,
        score=score,
        score_ci95=(score, score) if score_ci is None else score_ci,
        latency_ms=value,
        low_ms=value if latency.low_ms is None else latency.low_ms,
        high_ms=value if latency.high_ms is None else latency.high_ms,
        source=latency.source,
        standing=Standing.ON,
    )
