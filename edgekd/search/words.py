"""A search in words and figures, for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from edgekd.core.intervals import Interval
from edgekd.core.records import present
from edgekd.reporting.pareto import Standing
from edgekd.reporting.text import between, percent, plural, points
from edgekd.search.limits import Limits, Objective
from edgekd.search.record import (
    Dropped,
    FinalistRow,
    ForecastRow,
    Latency,
    LimitName,
    ScoreKind,
    Search,
    SearchState,
    Source,
    TrialRow,
    TrialState,
)

SCORES = {ScoreKind.AUC: "AUC", ScoreKind.TOP1: "top-1"}
BEST = {
    Objective.ACCURACY: "the most accurate network",
    Objective.LATENCY: "the fastest network",
    Objective.SIZE: "the smallest network",
}
LIMITS = {
    LimitName.LATENCY: "latency",
    LimitName.SIZE: "size",
    LimitName.MEMORY: "memory",
    LimitName.DROP: "loss of accuracy",
    LimitName.OPERATORS: "operators",
}
STANDINGS = {
    Standing.ON: "on the front",
    Standing.WITHIN_CHANCE: "within chance of it",
    Standing.BEHIND: "behind it",
}
TRIALS = {
    TrialState.RUNNING: "training",
    TrialState.WAITING: "waits for the others",
    TrialState.PROMOTED: "promoted",
    TrialState.FINALIST: "finalist",
    TrialState.STOPPED: "stopped",
    TrialState.FAILED: "failed",
    TrialState.LOST: "its worker ended",
}


def title(search: Search) -> str:
    """What came out, in a few words."""
    profile = search.request.profile
    if search.recommended is not None:
        return f"{search.recommended.candidate} for {profile}"
    if search.state is SearchState.NOTHING_FITS:
        return f"No network fits on {profile}"
    if search.state in (SearchState.INTERRUPTED, SearchState.RUNNING):
        return f"A search for {profile}"
    return f"No network for {profile} keeps every limit"


def asked(search: Search) -> str:
    """What was asked, as the rest of a sentence: "the most accurate network for pi4 of ..."."""
    request = search.request
    limits = within(request.limits)
    return f"{BEST[request.objective]} for {request.profile}{f' {limits}' if limits else ''}"


def within(limits: Limits) -> str:
    """The limits: "within 5 ms and 2 MB, at most 1 point of top-1 below ..."; "" for none."""
    most = []
    if limits.latency_ms is not None:
        most.append(f"{limits.latency_ms:g} ms")
    if limits.size_bytes is not None:
        most.append(size(limits.size_bytes))
    if limits.memory_bytes is not None:
        most.append(f"{size(limits.memory_bytes)} of memory")
    parts = [f"within {listed(most)}"] if most else []
    if limits.drop_points is not None:
        noun = "point" if limits.drop_points == 1 else "points"
        parts.append(f"at most {limits.drop_points:g} {noun} of top-1 below the teacher")
    return ", ".join(parts)


def listed(parts: Sequence[str]) -> str:
    """Parts as a list in a sentence: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def score(kind: ScoreKind, value: float | None) -> str:
    """An AUC as "0.951", a share as "95.1%", "–" for None."""
    if value is None:
        return "–"
    return f"{value:.3f}" if kind is ScoreKind.AUC else percent(value)


def score_bound(kind: ScoreKind, interval: Interval | None) -> str:
    """An interval of scores, or "" for None."""
    if interval is None:
        return ""
    low, high = (score(kind, bound) for bound in interval)
    return f"{low.rstrip('%')}–{high}"


def latency(row: Latency | ForecastRow | None) -> str:
    """A latency as "3.2 ms", or "–" where nothing is known."""
    value = None if row is None else row.latency_ms
    return "–" if value is None else f"{value:.3g} ms"


def latency_bound(row: Latency | ForecastRow | None) -> str:
    """Its interval as "2.6–4.1", or "" where none is known."""
    if row is None or row.low_ms is None or row.high_ms is None:
        return ""
    return f"{row.low_ms:.3g}–{row.high_ms:.3g}"


def source(row: Latency) -> str:
    """Where a latency comes from."""
    return "measured" if row.source is Source.MEASURED else "predicted"


def size(count: int | None) -> str:
    """Bytes as kB or MB, in powers of ten as limits are typed."""
    if count is None:
        return "–"
    if count < 1_000_000:
        return f"{count / 1e3:.3g} kB"
    return f"{count / 1e6:.2f}".rstrip("0").rstrip(".") + " MB"


def finalist_score(search: Search, row: FinalistRow) -> tuple[float | None, Interval | None]:
    """The figure of a finalist that ranks, with its interval."""
    if search.score is ScoreKind.AUC:
        return row.auc, row.auc_ci95
    return row.top1, row.top1_ci95


def against_teacher(row: FinalistRow) -> str:
    """A finalist's top-1 less the teacher's, in points; "–" where it is not known."""
    return "–" if row.drop_points is None else points(-row.drop_points / 100)


def against_bound(row: FinalistRow) -> str:
    """Its interval, or ""."""
    if row.drop_points_ci95 is None:
        return ""
    low, high = row.drop_points_ci95
    return between((-high / 100, -low / 100))


def finalists(search: Search) -> list[FinalistRow]:
    """The finalists: the recommended one, the runner-up, then the others in their order."""
    chosen = [one.candidate for one in (search.recommended, search.runner_up) if one is not None]
    last = len(chosen)

    def place(row: FinalistRow) -> int:
        return chosen.index(row.candidate) if row.candidate in chosen else last

    return sorted(search.finalists, key=place)


def faults(row: FinalistRow) -> list[str]:
    """All that is wrong with a finalist: limits that it misses, and gates that it failed."""
    return [miss.text for miss in row.misses] + list(row.gates)


def doubts(search: Search, row: FinalistRow) -> list[str]:
    """The limits that a finalist may miss: its predicted latency is over, its interval is not."""
    limit, found = search.request.limits.latency_ms, row.latency(search.request.profile)
    missed = any(miss.limit is LimitName.LATENCY for miss in row.misses)
    if limit is None or found is None or missed or found.latency_ms <= limit:
        return []
    told = f"latency {found.latency_ms:.3g} ms predicted, at most {limit:g} ms allowed"
    return [f"{told}: the interval holds both"]


def certificate(row: FinalistRow) -> str:
    """A finalist's certificate."""
    return {None: "not yet", True: "passed", False: "failed"}[row.certified]


def dropped(block: Dropped, considered: int) -> str:
    """How many candidates cannot meet the limits."""
    if not block.candidates:
        return f"None of {plural(considered, 'candidate')} was dropped: all can meet the limits."
    return (
        f"{block.candidates:,} of {plural(considered, 'candidate')} cannot meet the limits, even "
        "at the favourable end of what is predicted. They were dropped before training."
    )


def counted(state: TrialState, count: int) -> str:
    """How many candidates ended so: "3 finalists", "18 stopped"."""
    if state is TrialState.FINALIST:
        return plural(count, "finalist")
    whose = "its worker" if count == 1 else "their workers"
    return f"{count} {f'left by {whose}' if state is TrialState.LOST else TRIALS[state]}"


def last_trials(search: Search) -> dict[str, TrialRow]:
    """The trial of each candidate at the highest rung that it reached."""
    found: dict[str, TrialRow] = {}
    for row in search.trials:
        known = found.get(row.candidate)
        if known is None or row.rung >= known.rung:
            found[row.candidate] = row
    return found


def correlation(search: Search) -> str:
    """What the first rung was worth; "" where it is not known."""
    block = present(search.rank_correlation)
    if block is None:
        return ""
    return (
        f"The first rung's order agreed with the last scores of {block.candidates} candidates with "
        f"a rank correlation (Spearman) of {block.spearman:.2f}."
    )
