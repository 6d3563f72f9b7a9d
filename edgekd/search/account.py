"""The account of a search: from its trials to the record that search.json holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import msgspec

import edgekd
from edgekd.core.records import UNSET, from_json
from edgekd.evaluation.accuracy_record import Figures
from edgekd.search import decisions, entrants, finalist, front, ranking, search_rows
from edgekd.search.candidate import Candidate
from edgekd.search.forecast import Forecast
from edgekd.search.ledger import Kind, State, Trial
from edgekd.search.limits import Objective
from edgekd.search.ranking import Scored
from edgekd.search.reach import Reach
from edgekd.search.record import (
    CandidateRow,
    Choice,
    FinalistRow,
    RankCorrelation,
    Request,
    RungRow,
    ScoreKind,
    Search,
    SearchState,
    TeacherRow,
    TrialRow,
    TrialState,
)
from edgekd.search.situation import Situation

_STATES = {
    State.WAITING: TrialState.WAITING,
    State.RUNNING: TrialState.RUNNING,
    State.FAILED: TrialState.FAILED,
    State.LOST: TrialState.LOST,
    State.CLOSED: TrialState.STOPPED,
}


@dataclasses.dataclass(frozen=True)
class Found:
    """What is known before training: the forecasts on each device, that of the limits first."""

    forecasts: Mapping[str, Sequence[Forecast]]
    reach: Reach

    @property
    def names(self) -> dict[Candidate, str]:
        """A unique name for each candidate."""
        first = next(iter(self.forecasts.values()))
        return search_rows.names([each.candidate for each in first])

    @property
    def by_candidate(self) -> dict[Candidate, dict[str, Forecast]]:
        """The forecasts of each candidate, by device."""
        known: dict[Candidate, dict[str, Forecast]] = {}
        for profile, rows in self.forecasts.items():
            for each in rows:
                known.setdefault(each.candidate, {})[profile] = each
        return known

    def rows(self, candidates: Sequence[Candidate]) -> list[CandidateRow]:
        """The rows of candidates."""
        named, known = self.names, self.by_candidate
        return [search_rows.candidate_row(each, named[each], known[each]) for each in candidates]


def before_training(found: Found, request: Request, seconds: float) -> Search:
    """The account of a search that has no trial yet, or whose candidates all miss a limit."""
    reach = found.reach
    nothing = not reach.within
    return Search(
        edgekd=edgekd.__version__,
        state=SearchState.NOTHING_FITS if nothing else SearchState.RUNNING,
        failed=[nothing_fits(found)] if nothing else [],
        request=request,
        score=ScoreKind.TOP1,
        considered=len(reach.within) + len(reach.dropped),
        candidates=found.rows(reach.candidates),
        dropped=search_rows.dropped_rows(reach, found.names, found.by_candidate),
        rungs=[],
        trials=[],
        finalists=[],
        fronts=[],
        recommended=None,
        runner_up=None,
        seconds=seconds,
        notes=_notes(reach, request),
    )


def _notes(reach: Reach, request: Request) -> list[str]:
    """What the user should know about the candidates that were tried."""
    tried = len(entrants.likely(reach.within, request.limits))
    untried = len(reach.within) - tried
    if not untried:
        return []
    told = (
        f"{untried:,} candidates keep the latency only at the favourable end of their interval; "
        f"they were not tried, because {tried:,} keep it by the estimate"
    )
    return [told]


def nothing_fits(found: Found) -> str:
    """Why nothing was trained, in one sentence."""
    count = len(found.reach.dropped)
    return f"none of the {count:,} candidates can keep every limit; nothing was trained"


def of(
    found: Found,
    request: Request,
    situation: Situation | None,
    trials: Sequence[Trial],
    teacher: str,
    state: SearchState,
    seconds: float,
) -> Search:
    """The account of a search with trials. `teacher`: its name. `state`: if it has not ended."""
    made = before_training(found, request, seconds)
    facts = _teacher_facts(trials)
    figures = None if facts is None else from_json(Figures, facts, "the teacher's figures")
    many = any(
        each.outcome is not None and each.task.kind is Kind.RUNG and _figures(each).auc is not None
        for each in trials
    )
    made = msgspec.structs.replace(
        made,
        state=state,
        score=ScoreKind.AUC if many else ScoreKind.TOP1,
        teacher=UNSET if figures is None else _teacher(teacher, figures),
        trials=_trials(trials, found.names),
        finalists=_finalists(trials),
    )
    if situation is None:
        return made
    rows = {row.candidate: row for row in made.finalists if finalist.good(row)}
    named = found.names
    good = [each for each in decisions.finalists(situation) if named[each.candidate] in rows]
    kept = [
        _choice(rows[named[each.candidate]], good[: place + 1], made.score, request.objective)
        for place, each in enumerate(good[:2])
    ]
    made = msgspec.structs.replace(
        made,
        rungs=_rungs(situation),
        recommended=kept[0] if kept else None,
        runner_up=kept[1] if len(kept) > 1 else None,
        rank_correlation=_correlation(situation),
    )
    return msgspec.structs.replace(made, fronts=front.fronts(made))


def _teacher_facts(trials: Sequence[Trial]) -> dict[str, object] | None:
    for each in trials:
        if each.task == decisions.TEACHER and each.outcome is not None:
            figures: dict[str, object] | None = each.outcome.facts["figures"]
            return figures
    return None


def _teacher(name: str, figures: Figures) -> TeacherRow:
    return TeacherRow(
        name=name,
        top1=figures.top1,
        top1_ci95=figures.top1_ci95,
        auc=figures.auc,
        auc_ci95=figures.auc_ci95,
    )


def _figures(trial: Trial) -> Figures:
    assert trial.outcome is not None
    return from_json(Figures, trial.outcome.facts["figures"], "a trial in the storage")


def _rungs(situation: Situation) -> list[RungRow]:
    plan = situation.plan
    counts = list(plan.counts)
    return [
        RungRow(number, epochs, planned)
        for number, (epochs, planned) in enumerate(zip(plan.epochs, counts, strict=True))
    ] + (
        [RungRow(len(plan.epochs), plan.epochs[-1], counts[-1], "prune")]
        if situation.on(Kind.RUNG, len(plan.epochs))
        else []
    )


def _trials(trials: Sequence[Trial], names: Mapping[Candidate, str]) -> list[TrialRow]:
    """The rows of the rungs, without trials that were never run because an earlier one was."""
    above = {
        (each.task.candidate, each.task.rung) for each in trials if each.task.kind is Kind.RUNG
    }
    built = {each.task.candidate for each in trials if each.task.kind is Kind.BUILD}
    found = []
    for each in trials:
        candidate = each.task.candidate
        if each.task.kind is not Kind.RUNG or candidate is None or candidate not in names:
            continue
        if each.state is State.CLOSED and each.worker is None:
            continue
        state = _STATES.get(each.state)
        if state is None:
            if (candidate, each.task.rung + 1) in above:
                state = TrialState.PROMOTED
            else:
                state = TrialState.FINALIST if candidate in built else TrialState.STOPPED
        score = None if each.outcome is None else _figures(each)
        found.append(
            TrialRow(
                candidate=names[candidate],
                rung=each.task.rung,
                epochs=0 if each.outcome is None else each.outcome.facts["epochs"],
                state=state,
                score=None if each.outcome is None else each.outcome.value,
                score_ci95=None
                if score is None
                else (score.top1_ci95 if score.auc is None else score.auc_ci95),
                seconds=0.0 if each.outcome is None else each.outcome.seconds,
                worker="" if each.worker is None else each.worker.name,
                why=_why(each, state),
            )
        )
    return found


def _why(trial: Trial, state: TrialState) -> str:
    if trial.why:
        return trial.why.partition("\n")[0]
    return {
        TrialState.PROMOTED: "among the best",
        TrialState.FINALIST: "built whole",
        TrialState.STOPPED: "not among the best",
        TrialState.LOST: "its worker ended",
    }.get(state, "")


def _finalists(trials: Sequence[Trial]) -> list[FinalistRow]:
    return [
        from_json(FinalistRow, each.outcome.facts, "a build in the storage")
        for each in trials
        if each.task.kind is Kind.BUILD and each.outcome is not None
    ]


def _choice(
    row: FinalistRow, order: Sequence[Scored], kind: ScoreKind, objective: Objective
) -> Choice:
    """The first or the second of those that keep every limit. `order`: up to this one."""
    what = {
        Objective.ACCURACY: "the best score",
        Objective.LATENCY: "the lowest predicted latency",
        Objective.SIZE: "the smallest file",
    }[objective]
    name = "AUC" if kind is ScoreKind.AUC else "top-1"
    own = f"{name} {order[-1].value:.3f}"
    if len(order) == 1:
        why = f"It has {what} of those that keep every limit and gate: {own} on validation images."
    else:
        why = f"It comes second: {own} against {order[0].value:.3f} on validation images."
    return Choice(row.candidate, why, row.folder, row.command)


def _correlation(situation: Situation) -> RankCorrelation | msgspec.UnsetType:
    """Spearman's rho of the first and the last rung, over the candidates that reached both."""
    last = len(situation.plan.epochs) - 1
    first, final = (
        {each.candidate: each.value for each in situation.scores(situation.on(Kind.RUNG, rung))}
        for rung in (0, last)
    )
    both = [each for each in final if each in first]
    if last == 0 or len(both) < 3:
        return UNSET
    rho = ranking.spearman([first[each] for each in both], [final[each] for each in both])
    return UNSET if rho is None else RankCorrelation(rho, len(both))
