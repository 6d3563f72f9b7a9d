"""A worker: takes a task, does it, writes what it found, and goes on until nothing is left.

Any number of workers, on any machines, share one ledger. They come and go. What one leaves behind
when it is killed, another one takes up again.
"""

from __future__ import annotations

import dataclasses
import functools
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Protocol

from edgekd.core.errors import (
    EdgeKDError,
    GateFailed,
    OutOfMemory,
    TrainingDiverged,
    UnsupportedNetwork,
    WeightsError,
)
from edgekd.search.decisions import Decision
from edgekd.search.lease import Watch, beating
from edgekd.search.ledger import STOPPED, Kind, Ledger, Outcome, State, Trial

# Seconds between two looks at the storage of a worker that has nothing to do.
LOOK = 2.0
# What may be wrong with one candidate. Any other error of EdgeKD ends the worker.
ITS_OWN = (GateFailed, OutOfMemory, TrainingDiverged, UnsupportedNetwork, WeightsError)

type Check = Callable[[], None]


class OutOfTime(Exception):
    """The time for what a worker does is over. What was trained so far is kept."""


class GivenAway(Exception):
    """Another worker has taken the task, because this one was not heard of for long."""


class Work(Protocol):
    """What the tasks of a search do. Each calls `check` often, which may raise."""

    def do(self, trial: Trial, check: Check) -> Outcome:
        """Do the task of a trial. Raises an EdgeKDError when it fails."""
        ...

    def decide(self, trials: Sequence[Trial]) -> Decision:
        """What to do next."""
        ...

    def left(self, kind: Kind) -> float:
        """Seconds until work of this kind has to stop."""
        ...


@dataclasses.dataclass(frozen=True)
class Clock:
    """The time, and how to wait; a test gives its own. Both are in seconds."""

    now: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep


class Worker:
    """Works on a ledger until nothing is left to do. `tell`: is told each trial that has ended."""

    def __init__(
        self, ledger: Ledger, work: Work, tell: Callable[[Trial], None], clock: Clock = Clock()
    ) -> None:
        self.ledger, self.work, self.tell, self.clock = ledger, work, tell, clock
        self._watch = Watch(clock.now)

    def run(self) -> None:
        """Work until the search has ended.

        Raises the error that ends a search: the teacher's, or one that every candidate would meet.
        """
        while True:
            trials = self.free_lost()
            decision = self.work.decide(trials)
            self.ledger.add(decision.add)
            if decision.ended:
                return
            trial = self.ledger.claim(decision.kinds)
            if trial is not None:
                self._do(trial)
            elif not decision.add:
                self.clock.wait(LOOK)

    def free_lost(self) -> tuple[Trial, ...]:
        """All trials, after those of workers that are gone were given up as lost."""
        trials = self.ledger.trials()
        running = {each.number: each for each in trials if each.state is State.RUNNING}
        lost = self._watch.lost({key: (each.worker, each.beat) for key, each in running.items()})
        for number in lost:
            self.ledger.close(running[number], State.LOST, "")
        return self.ledger.trials() if lost else trials

    def _do(self, trial: Trial) -> None:
        """Do one task, and write what came of it, whatever happens."""
        try:
            with beating(functools.partial(self._beat, trial)) as given_away:

                def check() -> None:
                    if given_away.is_set():
                        raise GivenAway
                    if self.work.left(trial.task.kind) <= 0:
                        raise OutOfTime

                outcome = self.work.do(trial, check)
        except GivenAway:
            return
        except OutOfTime:
            self._end(trial, State.CLOSED, "time was up")
        except ITS_OWN as error:
            self._end(trial, State.FAILED, str(error))
            if trial.task.kind is Kind.TEACHER:
                raise
        except EdgeKDError as error:
            if trial.task.kind is Kind.TEACHER:
                self._end(trial, State.FAILED, str(error))
            else:
                self.ledger.close(trial, State.LOST, STOPPED)
            raise
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{last.filename.rpartition('/')[2]}, line {last.lineno}"
            self._end(trial, State.FAILED, f"{type(error).__name__}: {error} ({where})")
            if trial.task.kind is Kind.TEACHER:
                raise
        except BaseException:  # Ctrl-C, or SIGTERM
            self.ledger.close(trial, State.LOST, STOPPED)
            raise
        else:
            if self.ledger.finish(trial, outcome):
                self.tell(dataclasses.replace(trial, state=State.DONE, outcome=outcome))

    def _beat(self, trial: Trial, count: int) -> bool:
        try:
            return self.ledger.beat(trial, count)
        except EdgeKDError:  # a server that starts again: the next beat may be heard
            return True

    def _end(self, trial: Trial, state: State, why: str) -> None:
        if self.ledger.close(trial, state, why):
            self.tell(dataclasses.replace(trial, state=state, why=why))
