"""A tracker at arm's length: its calls run in a thread of their own, and a failure ends it.

The work that is tracked never waits for a tracker and never sees its errors. The first failure
leaves one sentence, and every later call does nothing.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from edgekd.app.tracking.secrets import hidden

# Calls that may wait. A build makes a few each second, so a tracker that is so far behind is an
# hour late.
MOST_WAITING = 10_000
# Seconds that the end of the work waits for calls that are still running: enough for MLflow to make
# its database on a busy machine.
WAIT = 60.0
BEHIND = "it takes up figures more slowly than they come"
LONGEST = 200  # characters of a reason; some servers answer with a page of HTML

type Call = Callable[[], None]


class Background:
    """Runs calls one after the other, until one fails or `close`."""

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._calls = queue.Queue[Call | None](most_waiting)
        self._failure = ""
        self._told = False
        self._thread = threading.Thread(target=self._work, name="edgekd tracker", daemon=True)
        self._thread.start()

    def do(self, call: Call) -> None:
        """Run a call later. Returns at once, and raises nothing."""
        if self._failure:
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._failure = BEHIND

    def failure(self) -> str:
        """Why the tracker stopped, the first time that this is asked after it did; else ""."""
        if self._told or not self._failure:
            return ""
        self._told = True
        return self._failure

    def close(self, wait: float = WAIT) -> None:
        """Wait for the calls that were made, for so many seconds at most."""
        if self._failure:
            return
        try:
            self._calls.put_nowait(None)
        except queue.Full:
            self._failure = BEHIND
            return
        self._thread.join(wait)
        if self._thread.is_alive() and not self._failure:
            self._failure = f"it did not take everything up within {wait:.0f} s"

    def _work(self) -> None:
        while (call := self._calls.get()) is not None and not self._failure:
            try:
                call()
            # SystemExit is an exception too: some libraries exit where they cannot log in.
            except BaseException as error:
                words = " ".join(str(error).split()) or type(error).__name__
                self._failure = hidden(words)[:LONGEST]
