"""Watching a training or a teacher's answers: whether they take as long as was planned."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

from edgekd.core.context import Progress

# When a stage is looked at, as a part of its planned time, and how far it has to be off for its
# plan to be made again. What is trained until then is lost: the later it is, the less that pays.
LOOKS = ((0.05, 0.1), (0.15, 0.3))
# Less than this says nothing: the first steps of a training are slower, and other programs take
# some of the time.
LEAST_SECONDS, LEAST_STEPS = 10.0, 10


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a look has shown: `done` of `total` steps of a task are done, at `seconds` a step, and
    the whole task takes `ratio` times as long as planned.
    """

    task: str
    done: int
    total: int
    seconds: float
    ratio: float


class Watch:
    """A stage's progress, looked at when LOOKS say so.

    `tasks`: the tasks to look at, by the name in their progress, with the seconds that each is
    planned to take. `look(seen)` is called where one is off by more than LOOKS allow, and may
    raise. `clock`: seconds, from any start.
    """

    def __init__(
        self,
        progress: Progress,
        tasks: Mapping[str, float],
        look: Callable[[Seen], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress, self._tasks, self._look, self._clock = progress, tasks, look, clock
        self._task, self._first, self._start = "", 0, 0.0
        self._looks = [*LOOKS]

    def __call__(self, what: str, done: int, total: int, **figures: float) -> None:
        """Pass progress on, and look at it (a Watch is itself a Progress)."""
        self._progress(what, done, total, **figures)
        now = self._clock()
        if what != self._task:
            # Work of an earlier run, before the first update, says nothing about the rate.
            self._task, self._first, self._start = what, done, now
            self._looks = [*LOOKS]
            return
        planned = self._tasks.get(what, 0.0)
        taken, steps = now - self._start, done - self._first
        if not planned or not self._looks or taken < LEAST_SECONDS or steps < LEAST_STEPS:
            return
        share, tolerance = self._looks[0]
        if taken < share * planned:
            return
        del self._looks[0]
        ratio = taken * (total - self._first) / steps / planned
        if abs(ratio - 1) > tolerance:
            self._look(Seen(what, done, total, taken / steps, ratio))
