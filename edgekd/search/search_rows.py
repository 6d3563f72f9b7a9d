"""Rows of search.json from what the search works with: candidates, forecasts, limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from edgekd.search.candidate import Candidate
from edgekd.search.forecast import Forecast
from edgekd.search.record import CandidateRow, ForecastRow


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
