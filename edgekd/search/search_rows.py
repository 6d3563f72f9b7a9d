"""Rows of search.json from what the search works with: candidates, forecasts, what was dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from edgekd.search.candidate import Candidate
from edgekd.search.forecast import Forecast
from edgekd.search.reach import Reach, Reason
from edgekd.search.record import (
    CandidateRow,
    Dropped,
    DropReason,
    ForecastRow,
    LimitName,
    Miss,
    NearMiss,
)

NEAREST = 5  # of the dropped candidates that search.json has; all may be thousands
WHY = {
    Reason.OPERATORS: "the device does not run all their operators as the profile asks",
    Reason.MEMORY: "they need more memory than allowed",
    Reason.SIZE: "their file is larger than allowed",
    Reason.LATENCY: "they are slower than allowed, even at the favourable end of the interval",
}


def names(candidates: Sequence[Candidate]) -> dict[Candidate, str]:
    """A unique name for each candidate: its label, with its weights where labels are equal."""
    seen = Counter(candidate.label for candidate in candidates)
    return {
        candidate: candidate.label
        if seen[candidate.label] == 1
        else f"{candidate.label}, weights {candidate.weights or 'none'}"
        for candidate in candidates
    }


def candidate_row(
    candidate: Candidate, name: str, forecasts: Mapping[str, Forecast]
) -> CandidateRow:
    """A candidate's row. `forecasts`: by the name of the profile, that of the limits first."""
    return CandidateRow(
        name=name,
        student=candidate.student,
        weights=candidate.weights,
        input_px=candidate.input_px,
        pruned=candidate.pruned,
        edits=dict(candidate.edits),
        number_format=candidate.number_format,
        forecasts=[forecast_row(forecast) for forecast in forecasts.values()],
    )


def forecast_row(forecast: Forecast) -> ForecastRow:
    """A forecast's row."""
    return ForecastRow(
        profile=forecast.profile,
        latency_ms=forecast.latency_ms,
        low_ms=forecast.low_ms,
        high_ms=forecast.high_ms,
        basis=forecast.basis,
        size_bytes=forecast.size_bytes,
        memory_bytes=forecast.memory_bytes,
        macs=forecast.macs,
        refused=list(forecast.refused),
    )


def dropped_rows(
    reach: Reach,
    named: Mapping[Candidate, str],
    forecasts: Mapping[Candidate, Mapping[str, Forecast]],
) -> Dropped:
    """What was dropped before training. `forecasts`: of each candidate, as in `candidate_row`."""
    return Dropped(
        candidates=len(reach.dropped),
        reasons=[
            DropReason(LimitName(reason), count, WHY[reason])
            for reason, count in reach.counts().items()
        ],
        nearest=[
            NearMiss(
                candidate_row(candidate, named[candidate], forecasts[candidate]),
                [
                    Miss(LimitName(miss.reason), miss.allowed, miss.found, miss.why)
                    for miss in one.misses
                ],
            )
            for one in reach.nearest(NEAREST)
            for candidate in (one.forecast.candidate,)
        ],
    )
