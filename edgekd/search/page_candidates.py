"""The candidates by rung: a table, and a chart of their scores over the epochs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edgekd.core.records import present
from edgekd.reporting import charts
from edgekd.reporting import text as fmt
from edgekd.search import words
from edgekd.search.record import (
    CandidateRow,
    Search,
    TrialRow,
    TrialState,
)

SHOWN = 15  # candidates that the page shows at once; the others are folded
# Of a trial at its last rung, best first.
ORDER = {
    TrialState.FINALIST: 0,
    TrialState.PROMOTED: 1,
    TrialState.RUNNING: 2,
    TrialState.WAITING: 3,
    TrialState.STOPPED: 4,
    TrialState.LOST: 5,
    TrialState.FAILED: 6,
}
# The chart's lines: CSS class and name, the uppermost first.
FINALIST, GOING_ON, STOPPED = ("first", "finalists"), ("going", "going on"), ("stopped", "stopped")
STYLES = {
    TrialState.FINALIST: FINALIST,
    TrialState.STOPPED: STOPPED,
    TrialState.FAILED: STOPPED,
    TrialState.LOST: STOPPED,
}


@dataclasses.dataclass(frozen=True)
class RungLine:
    """One rung. `best`: the best score. `counts`: how many candidates ended how."""

    name: str
    epochs: str
    trained: int
    counts: str
    best: str
    seconds: str


@dataclasses.dataclass(frozen=True)
class CandidateLine:
    """One candidate. `cells`: (score, interval) at each rung. `end`: what became of it."""

    name: str
    latency: str
    latency_bound: str
    size: str
    cells: list[tuple[str, str]]
    end: str
    why: str
    style: str


@dataclasses.dataclass(frozen=True)
class CandidatesView:
    """Everything about the candidates that were not dropped. `legend`: (CSS class, name)."""

    score: str
    chart: str
    legend: list[tuple[str, str]]
    rungs: list[RungLine]
    shown: list[CandidateLine]
    folded: list[CandidateLine]
    untried: int
    correlation: str


def candidates_view(search: Search) -> CandidatesView | None:
    """The section, or None where nothing was trained."""
    if not search.trials:
        return None
    last = words.last_trials(search)
    tried = [row for row in search.candidates if row.name in last]
    tried.sort(key=lambda row: _rank(last[row.name]))
    lines = [_line(search, row, last[row.name]) for row in tried]
    return CandidatesView(
        score=words.SCORES[search.score],
        chart=_chart(search, last),
        legend=list(dict.fromkeys(STYLES.get(last[row.name].state, GOING_ON) for row in tried)),
        rungs=[_rung(search, number) for number in range(len(search.rungs))],
        shown=lines[:SHOWN],
        folded=lines[SHOWN:],
        untried=len(search.candidates) - len(tried),
        correlation=words.correlation(search),
    )


def _rank(trial: TrialRow) -> tuple[int, int, float]:
    score = trial.score
    return -trial.rung, ORDER[trial.state], 1.0 if score is None else -score


def _line(search: Search, row: CandidateRow, last: TrialRow) -> CandidateLine:
    forecast = row.on(search.request.profile)
    by_rung = {trial.rung: trial for trial in search.trials if trial.candidate == row.name}
    cells = []
    for rung in search.rungs:
        trial = by_rung.get(rung.rung)
        cells.append(
            ("", "")
            if trial is None
            else (
                words.score(search.score, trial.score),
                words.score_bound(search.score, trial.score_ci95),
            )
        )
    return CandidateLine(
        name=row.name,
        latency=words.latency(forecast),
        latency_bound=words.latency_bound(forecast),
        size=words.size(None if forecast is None else forecast.size_bytes),
        cells=cells,
        end=words.TRIALS[last.state],
        why=last.why,
        style="final" if last.state is TrialState.FINALIST else "",
    )


def _rung(search: Search, number: int) -> RungLine:
    rung = search.rungs[number]
    trials = [row for row in search.trials if row.rung == rung.rung]
    scores = [row.score for row in trials if row.score is not None]
    # A candidate whose worker ended is taken up again: its last trial counts.
    states = list({row.candidate: row.state for row in trials}.values())
    counts = [words.counted(state, states.count(state)) for state in ORDER if state in states]
    of = "" if rung.stage == "distil" else f" of {rung.stage}"
    return RungLine(
        name=f"{rung.rung + 1}",
        epochs=f"{fmt.plural(rung.epochs, 'epoch')}{of}",
        trained=len(states),
        counts=", ".join(counts),
        best=words.score(search.score, max(scores, default=None)),
        seconds=fmt.seconds(sum(row.seconds for row in trials)) if trials else "",
    )


def _chart(search: Search, last: dict[str, TrialRow]) -> str:
    """Every candidate's scores over the epochs of the first training, finalists on top."""
    drawn = [row.rung for row in search.rungs if row.stage == search.rungs[0].stage]
    lines = []
    for name, trial in sorted(last.items(), key=lambda pair: -ORDER[pair[1].state]):
        points = _points([row for row in search.trials if row.candidate == name], drawn)
        if points:
            lines.append(charts.Line(name, points, STYLES.get(trial.state, GOING_ON)[0]))
    best = max((y for line in lines for _, y in line.points), default=None)
    return charts.lines(
        lines,
        f"{words.SCORES[search.score]} on the validation images over the epochs, a line for each "
        f"of {fmt.plural(len(lines), 'candidate')}; the best reached "
        f"{words.score(search.score, best)}",
    )


def _points(trials: Sequence[TrialRow], rungs: Sequence[int]) -> list[tuple[float, float]]:
    """(epoch, score) of a candidate: of each epoch where they are known, else of each rung."""
    found: dict[int, float] = {}
    for row in trials:
        if row.rung in rungs:
            found |= {point.epoch: point.score for point in present(row.curve) or []}
            if row.score is not None:
                found[row.epochs] = row.score
    return sorted((float(epoch), score) for epoch, score in found.items())
