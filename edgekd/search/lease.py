"""Who works on a trial, and whether that worker is still there.

A worker counts a number up in its trial every BEAT seconds. Another worker that sees the same
number for GRACE seconds of its own clock takes the trial for lost. So no clocks need to agree, and
every storage serves. A worker of the same machine is known to be dead as soon as its process is
gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

BEAT = 15.0  # seconds
# A worker may miss several beats while its machine swaps or the network is down.
GRACE = 150.0  # seconds


@dataclasses.dataclass(frozen=True)
class WorkerId:
    """A process that works for a search.

    `name`: for people, as in "host-1:4711". `place`: the running machine (and container) whose
    process numbers these are, "" where it cannot be told. `started`: when the process started, in
    the kernel's ticks, so that a number that is given again is not taken for the same process.
    """

    name: str
    place: str
    pid: int
    started: str


def this_worker() -> WorkerId:
    """The process that calls."""
    pid = os.getpid()
    return WorkerId(f"{platform.node()}:{pid}", _place(), pid, _started(pid) or "")


def is_gone(worker: WorkerId) -> bool:
    """Whether a worker is known to be dead, which only its own machine can tell."""
    if not worker.place or worker.place != _place():
        return False
    return _started(worker.pid) != worker.started


def _place() -> str:
    """The running kernel and the namespace of its process numbers; "" on other systems."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process started, or None where none of this number lives."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()  # the name in brackets may hold blanks
    return None if state in "ZX" else fields[18]  # a zombie has ended


class Watch:
    """What a worker has seen of the others' beats. `clock()`: seconds that only grow."""

    def __init__(self, clock: Callable[[], float], grace: float = GRACE) -> None:
        self._clock, self._grace = clock, grace
        self._seen: dict[int, tuple[int, float]] = {}

    def lost(self, beats: Mapping[int, tuple[WorkerId | None, int]]) -> list[int]:
        """The trials whose workers are gone. `beats`: running trials, with worker and last beat."""
        now, found = self._clock(), []
        self._seen = {trial: seen for trial, seen in self._seen.items() if trial in beats}
        for trial, (worker, beat) in beats.items():
            last, since = self._seen.setdefault(trial, (beat, now))
            if beat != last:
                self._seen[trial] = (beat, now)
            elif now - since > self._grace or (worker is not None and is_gone(worker)):
                found.append(trial)
        return found


@contextlib.contextmanager
def beating(beat: Callable[[int], bool], every: float = BEAT) -> Iterator[threading.Event]:
    """A context in which `beat(count)` is called from a thread, until it returns False.

    It yields an event that is set when the beat has returned False: the trial was given away.
    """
    ended, given_away = threading.Event(), threading.Event()

    def go_on() -> None:
        count = 1
        while not ended.wait(every):
            if not beat(count):
                given_away.set()
                return
            count += 1

    thread = threading.Thread(target=go_on, name="edgekd search beat", daemon=True)
    thread.start()
    try:
        yield given_away
    finally:
        ended.set()
        thread.join()
