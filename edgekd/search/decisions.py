"""What a search does next, as a function of its trials and of the time that is left.

Every worker decides by itself, from the same trials. Two that decide at the same moment may add the
same task twice; the ledger runs it once. So a worker that is killed at any point loses nothing: the
next one to look adds what is missing.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from edgekd.search import plan as planning
from edgekd.search import proposals, ranking
from edgekd.search.candidate import Candidate
from edgekd.search.entrants import Entrant
from edgekd.search.ledger import ENDED_WELL, Kind, State, Task, Trial, given_up
from edgekd.search.ranking import Scored
from edgekd.search.situation import Situation

TEACHER = Task(Kind.TEACHER)
# Candidates that are built before a search gives up on finding one that keeps limits and gates.
MOST_BUILDS = 6


@dataclasses.dataclass(frozen=True)
class Decision:
    """`add`: tasks to add. `ended`: whether nothing is left to do. `kinds`: tasks to claim."""

    add: tuple[Task, ...] = ()
    ended: bool = False
    kinds: tuple[Kind, ...] = tuple(Kind)


def before_plan(trials: Sequence[Trial]) -> Decision | None:
    """What comes before there is a plan: the teacher. None once it is ready."""
    teacher = [each for each in trials if each.task == TEACHER and each.state in ENDED_WELL]
    if not teacher:
        return Decision(ended=True) if TEACHER in given_up(trials) else Decision((TEACHER,))
    return None if teacher[0].state is State.DONE else Decision()


def decide(now: Situation) -> Decision:
    """What a worker that has no task adds, and what it may then claim. `now`: `corrected`."""
    if now.left <= 0:
        return Decision(ended=True)
    if now.on(Kind.BUILD) or now.left <= reserve(now):
        return _build(now)
    missing, ended = _rungs(now)
    return _build(now) if ended and not missing else Decision(missing)


# --- rungs ----------------------------------------------------------------------------------------


def _rungs(now: Situation) -> tuple[tuple[Task, ...], bool]:
    """The tasks that are missing, and whether every rung has ended."""
    plan = now.plan
    last = len(plan.epochs) - 1
    if further := _further(now):
        return (further,), False
    closed = _closed(now)
    for rung in range(last):
        if not closed:
            return (), False
        here, above = now.on(Kind.RUNG, rung), now.on(Kind.RUNG, rung + 1)
        done = now.scores(here)
        running = len(here) - len(done)
        keep = max(_keep(now, rung, len(here)), len({each.task for each in above}))
        # Whatever the others at this rung reach, these stay among the best `keep`.
        certain = _promising(now, done, above)[: max(0, keep - running)]
        wanted = [Task(Kind.RUNG, each.candidate, rung + 1) for each in certain]
        if missing := _missing(now, wanted):
            return missing, False
        closed = running == 0
    if not closed or any(each.state is not State.DONE for each in now.on(Kind.RUNG, last)):
        return (), False
    wanted = _pruned(now)
    missing = _missing(now, wanted)
    live = [each for each in now.on(Kind.RUNG, last + 1) if each.state is not State.DONE]
    return missing, not missing and not live


def _promising(now: Situation, done: Sequence[Scored], above: Sequence[Trial]) -> list[Scored]:
    """The candidates of a rung whose training and build can still end in time, the best first.

    Where there is none, the one that takes the least time goes on. `above`: trials one rung up.
    """
    promoted = {each.task.candidate for each in above}
    takes = {each.candidate: _build_seconds(now, Task(Kind.BUILD, each.candidate)) for each in done}
    room = now.left * (1 - planning.SPARE)
    order = ranking.by_promise(done)
    found = [each for each in order if each.candidate in promoted or takes[each.candidate] <= room]
    return found or sorted(order, key=lambda each: takes[each.candidate])[:1]


def _missing(now: Situation, wanted: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks without a trial, except those that were given up."""
    there = {each.task for each in now.trials if each.state in ENDED_WELL}
    gone = given_up(now.trials)
    return tuple(task for task in wanted if task not in there and task not in gone)


def _tried(now: Situation) -> set[Candidate]:
    """The candidates that have, or had, a trial at the first rung."""
    return {
        each.task.candidate
        for each in now.trials
        if each.task.kind is Kind.RUNG and each.task.candidate is not None
    }


def _closed(now: Situation) -> bool:
    """Whether the first rung gets no more candidates."""
    first = {each.task for each in now.on(Kind.RUNG)}
    further = any(now.on(Kind.RUNG, rung) for rung in range(1, len(now.plan.epochs)))
    untried = len(_tried(now)) < len(now.entrants)
    return bool(first) and (further or not untried or len(first) >= _target(now))


def _further(now: Situation) -> Task | None:
    """A task of the first rung that was cut off, or a further candidate for it."""
    begun = [
        each.task for each in now.trials if each.task.kind is Kind.RUNG and each.task.rung == 0
    ]
    if missing := _missing(now, begun):
        return missing[0]
    if _closed(now) or any(each.state is State.WAITING for each in now.on(Kind.RUNG)):
        return None
    known = {each.candidate: each.value for each in now.scores(now.on(Kind.RUNG))}
    tried = _tried(now)
    chosen = proposals.propose(now.entrants, tried, known, now.seed * 1000 + len(tried))
    return None if chosen is None else Task(Kind.RUNG, chosen.candidate)


def _target(now: Situation) -> int:
    """The candidates for the first rung, by the times that were measured so far."""
    here = now.on(Kind.RUNG)
    done = sum(each.state is State.DONE for each in here)
    most = 0
    for first in range(1, len(now.entrants) + 1):
        # What is under way is half done on average.
        rest = max(0.0, first - done - 0.5 * (len(here) - done))
        counts = planning.counts(first, len(now.plan.epochs))
        wall = planning.seconds(
            (0, *counts[1:]), now.plan.epochs, _epoch(now), now.workers
        ) + rest / now.workers * now.plan.epochs[0] * _epoch(now)
        if wall > _room(now):
            break
        most = first
    return max(1, most)


def _keep(now: Situation, rung: int, ended: int) -> int:
    """How many of the `ended` candidates at a rung may go on."""
    return planning.most_kept(
        _room(now), ended, _steps(now.plan.epochs, rung), _epoch(now), now.workers
    )


def _steps(epochs: Sequence[int], rung: int) -> tuple[int, ...]:
    """The epochs at each rung from `rung` on, counted from its own."""
    return tuple(each - epochs[rung] for each in epochs[rung:])


def _pruned(now: Situation) -> list[Task]:
    """The tasks that cut the best networks, where candidates of them are pruned.

    A cut takes several epochs of fine-tuning. What has no time before the builds is left out: the
    build of a candidate then cuts it.
    """
    entrants = {each.candidate: each for each in now.entrants}
    best = ranking.by_promise(now.scores(now.on(Kind.RUNG, now.pruning - 1)))
    begun = {each.task for each in now.on(Kind.RUNG, now.pruning)}
    room = now.left * (1 - planning.SPARE) - _finishing(now, tuned=True)
    found: list[Task] = []
    for each in best[: planning.FINALISTS]:
        if (entrant := entrants.get(each.candidate)) is None:
            continue
        for member in entrant.members:
            if not member.candidate.pruned:
                continue
            task = Task(Kind.RUNG, member.candidate, now.pruning)
            if task not in begun:
                room -= now.costs.fine_tuning(entrant, now.epochs) / now.workers
                if room < 0:
                    return found
            found.append(task)
    return found


# --- whole builds ---------------------------------------------------------------------------------


def _build(now: Situation) -> Decision:
    """The next whole build, until there are a recommended network and a runner-up."""
    kinds = (Kind.BUILD,)
    trials = now.on(Kind.BUILD)
    live = [each for each in trials if each.state is not State.DONE]
    good = [each for each in trials if each.outcome is not None and each.outcome.good]
    if len(good) >= planning.FINALISTS:
        return Decision(ended=not live, kinds=kinds)
    if len(good) + len(live) < planning.FINALISTS and len(trials) < MOST_BUILDS:
        order = [Task(Kind.BUILD, each.candidate) for each in finalists(now)]
        free = _missing(now, order)
        fitting = [task for task in free if _build_seconds(now, task) <= now.left]
        if not fitting and not good and not live:
            fitting = list(free[:1])  # it may go on when the same command is given again
        if fitting:
            return Decision((fitting[0],), kinds=kinds)
    return Decision(ended=not live, kinds=kinds)


def finalists(now: Situation) -> list[Scored]:
    """All candidates with a score, in the order in which they are built."""
    best: dict[Candidate, Scored] = {}
    for rung in range(len(now.plan.epochs) + 1):
        best |= {each.candidate: each for each in now.scores(now.on(Kind.RUNG, rung))}
    last = now.pruning - 1
    whole = []
    for each in best.values():
        # A candidate that is yet to be pruned was not scored at its own size.
        if not each.candidate.pruned:
            whole.append(dataclasses.replace(each, rung=min(each.rung, last)))
        elif each.rung > last:
            whole.append(dataclasses.replace(each, rung=last))
        else:
            whole.append(dataclasses.replace(each, rung=each.rung - 1))
    return ranking.for_building(whole, now.objective, now.least_top1, last)


def _build_seconds(now: Situation, task: Task) -> float:
    """The time that a whole build is expected to take, with the training that is left to do."""
    done = [
        each.task.rung
        for each in now.trials
        if each.task.candidate == task.candidate
        and each.task.kind is Kind.RUNG
        and each.state is State.DONE
    ]
    trained = max((now.plan.epochs[min(rung, now.pruning - 1)] for rung in done), default=0)
    found = {member.candidate: each for each in now.entrants for member in each.members}
    entrant = found.get(task.candidate) if task.candidate else None
    if entrant is None:
        entrant = max(now.entrants, key=now.costs.epoch)
    pruned = task.candidate is None or bool(task.candidate.pruned)
    whole = not now.costs.finishing.fine_tuning(now.epochs, pruned=pruned)
    rest = (now.epochs - trained) * now.costs.epoch(entrant)
    return rest + now.costs.finish(entrant, now.epochs, tuned=whole or now.pruning in done)


def reserve(now: Situation) -> float:
    """Seconds to keep for whole builds: with their fine-tuning, until the rung of that begins."""
    wanted = _finishing(now, tuned=bool(now.on(Kind.RUNG, now.pruning)))
    return min(wanted, now.plan.most_reserve)


def _finishing(now: Situation, tuned: bool) -> float:
    """Seconds for the whole builds of the finalists. `tuned`: without their fine-tuning.

    Until networks are promoted those of middling size are reckoned with, and then the largest.
    """
    top = max((rung for rung in range(now.pruning) if now.on(Kind.RUNG, rung)), default=0)
    each = [now.costs.finish(one, now.epochs, tuned) for one in _at(now, top)]
    return planning.reserved(max(each) if top else statistics.fmean(each), now.workers, now.left)


def _at(now: Situation, rung: int) -> list[Entrant]:
    """The candidates at a rung; at the first, also those that may come."""
    here = {each.task.candidate for each in now.on(Kind.RUNG, rung)}
    found = [each for each in now.entrants if each.candidate in here]
    if rung == 0 and not now.on(Kind.RUNG, 1):
        untried = [each for each in now.entrants if each.candidate not in here]
        found += untried[: max(0, now.plan.first - len(found))]
    return found or [*now.entrants]


def _room(now: Situation) -> float:
    """Seconds for rungs."""
    return now.left * (1 - planning.SPARE) - reserve(now)


def _epoch(now: Situation) -> float:
    """Seconds of an epoch of a network of middling size among those that take part."""
    return statistics.fmean(now.costs.epoch(each) for each in _at(now, 0))
