"""The Pareto fronts of a search: which candidates are worth having on each device."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgekd.core.intervals import Interval
from edgekd.reporting.pareto import Point, Standing, standings
from edgekd.search.record import (
    FinalistRow,
    FrontBasis,
    FrontPoint,
    FrontRow,
    Latency,
    ScoreKind,
    Search,
    Source,
    TrialRow,
)


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
