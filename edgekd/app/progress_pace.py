"""How fast a task advances: its rate, the time left, and when a line about it is due."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgekd.app.progress import Advanced

# Seconds between two lines where no bar is drawn: a log shows that the build is alive, and an hour
# of training takes 120 lines.
LINE_EVERY = 30.0


class Pace:
    """Follows one task after another. `clock`: seconds, from any start."""

    def __init__(
        self, every: float = LINE_EVERY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every, self._clock = every, clock
        self._task, self._first, self._done = "", 0, 0
        self._start = self._shown = clock()

    def due(self, update: Advanced) -> bool:
        """Take note of an update. Returns whether a line about it is due."""
        now = self._clock()
        if update.task != self._task or update.done < self._done:
            # Work done before the first update, by an earlier run, says nothing about the rate.
            self._task, self._first = update.task, update.done
            self._start = self._shown = now
        self._done = update.done
        if now - self._shown < self._every:
            return False
        self._shown = now
        return True

    @property
    def rate(self) -> float:
        """Steps or images per second of the present task; 0 before its second update."""
        seconds = self._clock() - self._start
        return (self._done - self._first) / seconds if seconds > 0 else 0.0

    def seconds_left(self, update: Advanced) -> float | None:
        """Seconds until the task ends at the present rate; None while there is no rate."""
        rate = self.rate
        return (update.total - update.done) / rate if rate > 0 else None


def line(update: Advanced, pace: Pace) -> str:
    """One line about a task, such as "distil: 120 of 600, loss 0.71, 4.1/s, 1:57 left"."""
    left = pace.seconds_left(update)
    if left is None:
        return str(update)
    minutes, seconds = divmod(round(left), 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{update}, {pace.rate:.3g}/s, {clock} left"
