"""The trials of a search, in an Optuna study that all its workers share.

A trial is one task: the teacher, a candidate at a rung, or the whole build of a finalist. Any
worker may add a task at any time. Of several trials with one task only the first is ever run, and
a storage lets one worker alone set a trial to running. So nothing runs twice, without a lock.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from edgekd.core.artifacts import Json
from edgekd.search import storage
from edgekd.search.candidate import Candidate
from edgekd.search.lease import WorkerId

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

# A candidate that costs so many workers their lives, such as all memory, is given up.
MOST_LOST = 3
STOPPED = "the worker was stopped"  # by its user: no fault of the task


class Kind(enum.StrEnum):
    """What a trial does, in the order in which a search does them."""

    TEACHER = "teacher"  # the data set, the teacher and its answers, for all candidates
    RUNG = "rung"
    BUILD = "build"


@dataclasses.dataclass(frozen=True)
class Task:
    """What a trial does. Equal tasks are done once."""

    kind: Kind
    candidate: Candidate | None = None
    rung: int = 0

    def __str__(self) -> str:
        if self.candidate is None:
            return "teacher"
        if self.kind is Kind.BUILD:
            return f"whole build: {self.candidate.label}"
        return f"rung {self.rung + 1}: {self.candidate.label}"


class State(enum.StrEnum):
    """What became of a trial."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # the task itself: another worker would fail alike
    LOST = "lost"  # the worker ended before its task; the task is taken up again
    CLOSED = "closed"  # not run: an earlier trial has the same task, or time is up


ENDED_WELL = (State.WAITING, State.RUNNING, State.DONE)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a finished task found.

    `value`: the figure that ranks candidates, higher is better. `top1`: share of right answers on
    the validation images. `seconds`: spent on the task. `epochs`: of training in these seconds.
    `good`: whether a whole build keeps all limits and gates. `facts`: all else, as plain JSON.
    """

    value: float
    top1: float
    seconds: float
    epochs: float = 0.0
    good: bool = True
    facts: Json = None


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trial as a worker sees it. `why`: the reason of a trial that did not end well."""

    number: int
    task: Task
    state: State
    worker: WorkerId | None = None
    beat: int = 0
    outcome: Outcome | None = None
    why: str = ""


class Ledger:
    """The trials of one search. `where`: its storage, for messages. `me`: who writes.

    Raises StoreError when the storage cannot be used.
    """

    def __init__(self, kept: BaseStorage, where: str, name: str, me: WorkerId) -> None:
        import optuna

        self.where, self.shown, self.me = where, storage.shown(where), me
        self._kept = kept
        with storage.errors(where):
            self._study = optuna.create_study(
                storage=kept, study_name=name, direction="maximize", load_if_exists=True
            )
            self._id = kept.get_study_id_from_name(name)

    # --- what all workers agree on ------------------------------------------------------------

    def fact(self, name: str) -> Json:
        """A fact of the study, or None."""
        with storage.errors(self.where):
            return self._kept.get_study_user_attrs(self._id).get(name)

    def set_fact(self, name: str, value: Json) -> None:
        """Set a fact of the study. Of several workers that set one, the last is heard."""
        with storage.errors(self.where):
            self._kept.set_study_user_attr(self._id, name, value)

    # --- trials -------------------------------------------------------------------------------

    def trials(self) -> tuple[Trial, ...]:
        """Every trial, in the order in which they were added."""
        with storage.errors(self.where):
            rows = self._kept.get_all_trials(self._id, deepcopy=False)
        return tuple(_trial(row) for row in rows if "task" in row.user_attrs)

    def add(self, tasks: Iterable[Task]) -> None:
        """Add tasks, to be claimed by any worker."""
        from optuna.trial import TrialState, create_trial

        for task in tasks:
            about = {"task": msgspec.to_builtins(task), "name": str(task)}
            with storage.errors(self.where):
                self._study.add_trial(create_trial(state=TrialState.WAITING, user_attrs=about))

    def claim(self, kinds: Collection[Kind] = tuple(Kind)) -> Trial | None:
        """Take the waiting trial of one of `kinds` that matters most, or None without one."""
        trials = self.trials()
        first: dict[Task, int] = {}
        for trial in trials:
            if trial.state in ENDED_WELL:
                first.setdefault(trial.task, trial.number)
        waiting = [
            each for each in trials if each.state is State.WAITING and each.task.kind in kinds
        ]
        for trial in sorted(waiting, key=_urgency):
            if self._take(trial):
                if first[trial.task] == trial.number:
                    return dataclasses.replace(trial, state=State.RUNNING, worker=self.me)
                self.close(trial, State.CLOSED, "an earlier trial has the same task")
        return None

    def _take(self, trial: Trial) -> bool:
        """Set a trial to running, which one worker alone can do."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with storage.errors(self.where):
            try:
                if not self._kept.set_trial_state_values(self._key(trial), TrialState.RUNNING):
                    return False
                self._note(trial, "worker", msgspec.to_builtins(self.me))
            except UpdateFinishedTrialError:
                return False
        return True

    def beat(self, trial: Trial, count: int) -> bool:
        """Say that the trial is still worked on: False when it was given to another worker."""
        from optuna.exceptions import UpdateFinishedTrialError

        with storage.errors(self.where):
            try:
                self._note(trial, "beat", count)
            except UpdateFinishedTrialError:
                return False
        return True

    def finish(self, trial: Trial, outcome: Outcome) -> bool:
        """Write what a trial found: False when it was given to another worker meanwhile."""
        from optuna.trial import TrialState

        about = msgspec.to_builtins(outcome)
        return self._end(trial, TrialState.COMPLETE, "outcome", about, outcome.value)

    def close(self, trial: Trial, state: State, why: str) -> bool:
        """End a trial that found nothing: False when another worker has ended it already."""
        from optuna.trial import TrialState

        ended = TrialState.PRUNED if state is State.CLOSED else TrialState.FAIL
        return self._end(trial, ended, "ended", {"state": state, "why": why})

    def _end(
        self, trial: Trial, state: Any, name: str, about: Json, value: float | None = None
    ) -> bool:
        from optuna.exceptions import UpdateFinishedTrialError

        values = None if value is None else [value]
        with storage.errors(self.where):
            try:
                self._note(trial, name, about)  # a finished trial can be told nothing more
                return self._kept.set_trial_state_values(self._key(trial), state, values)
            except UpdateFinishedTrialError:
                return False

    def _note(self, trial: Trial, name: str, value: Json) -> None:
        self._kept.set_trial_user_attr(self._key(trial), name, value)

    def _key(self, trial: Trial) -> int:
        return self._kept.get_trial_id_from_study_id_trial_number(self._id, trial.number)


def _urgency(trial: Trial) -> tuple[int, int, int]:
    """The teacher first, then what is nearest to a result, and older trials before newer ones."""
    first = {Kind.TEACHER: 0, Kind.BUILD: 1, Kind.RUNG: 2}[trial.task.kind]
    return first, -trial.task.rung, trial.number


def _trial(row: FrozenTrial) -> Trial:
    """A trial of Optuna as one of a search."""
    about: Mapping[str, Any] = row.user_attrs
    ended = about.get("ended") or {}
    state = {
        "WAITING": State.WAITING,
        "RUNNING": State.RUNNING,
        "COMPLETE": State.DONE,
        "PRUNED": State.CLOSED,
    }.get(row.state.name) or State(ended.get("state", State.LOST))
    outcome = None
    if state is State.DONE:
        outcome = msgspec.convert(about["outcome"], Outcome)
    worker = about.get("worker")
    return Trial(
        row.number,
        _task(msgspec.json.encode(about["task"])),
        state,
        None if worker is None else msgspec.convert(worker, WorkerId),
        about.get("beat", 0),
        outcome,
        ended.get("why", ""),
    )


@functools.lru_cache(maxsize=4096)
def _task(text: bytes) -> Task:
    return msgspec.json.decode(text, type=Task)


def given_up(trials: Iterable[Trial]) -> set[Task]:
    """The tasks that failed, and those that cost so many workers their lives."""
    lost: collections.Counter[Task] = collections.Counter()
    found = set()
    for trial in trials:
        if trial.state is State.FAILED:
            found.add(trial.task)
        elif trial.state is State.LOST and trial.why != STOPPED:
            lost[trial.task] += 1
    return found | {task for task, times in lost.items() if times >= MOST_LOST}
