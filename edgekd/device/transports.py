"""How a job reaches a device and its files come back: one narrow seam, this machine, and the fake used in tests.

A transport makes a private folder at the device, puts the files there, runs one command in it, brings the named files
back, and leaves neither folder nor process behind, whatever happens. It knows nothing of models or benchmarks. The
other places are files of their own: ssh.py, adb.py, emulate.py.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgekd.core.errors import DeviceError
from edgekd.device import agent
from edgekd.device.agent import PYTHON as PYTHON  # part of this module's face

MAX_FILE_BYTES = 16 * 2**20  # of a file brought back; a bench JSON of 20,000 samples has 0.4 MB
MAX_STDERR = 64 * 2**10  # characters kept of what the job said
GRACE_S = 5.0  # between asking a job to end and killing it

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Job:
    """One command to run at a device.

    `files`: what to put into its folder, by plain name. `argv`: the command, run in that folder; PYTHON as its first
    word stands for the device's Python. `fetch`: names of the files to bring back. `timeout_s`: for the command alone.
    """

    files: Mapping[str, bytes]
    argv: Sequence[str]
    fetch: Sequence[str]
    timeout_s: float

    def __post_init__(self) -> None:
        for name in (*self.files, *self.fetch):
            if name in ("", ".", "..") or "/" in name or "\0" in name:
                raise ValueError(f"{name!r} is not a plain file name")

    @property
    def limits(self) -> dict[str, float]:
        """As `agent.run_job` takes them."""
        return {"timeout_s": self.timeout_s, "grace_s": GRACE_S, "file_bytes": MAX_FILE_BYTES}


@dataclass(frozen=True)
class Ran:
    """How a job ended: its exit code (-N: killed by signal N), the files it left (absent ones left out), what it said."""

    exit_code: int
    files: Mapping[str, bytes]
    stderr: str = ""


class Transport(Protocol):
    """A place where jobs run. `name` goes into the bench JSON; times from an `emulated` place are void.

    `run` raises DeviceError when the place cannot be reached, the command cannot be started, it does not end in time,
    or a file is over MAX_FILE_BYTES; a command that ends with an error is a `Ran`. `on_progress` is given 0 to 1, and
    may be called from another thread.
    """

    @property
    def name(self) -> str: ...

    @property
    def emulated(self) -> bool: ...

    def run(self, job: Job, on_progress: Progress) -> Ran: ...


class Deadline:
    """Calls `stop` once after `seconds`, unless it is ended before; `passed` tells whether it came to that."""

    def __init__(self, seconds: float, stop: Callable[[], None]) -> None:
        self.passed = False
        self._stop = stop
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True
        self._timer.start()

    def _pass(self) -> None:
        self.passed = True
        self._stop()

    def end(self) -> None:
        self._timer.cancel()


class Ear:
    """Hears a job's standard error line by line: progress goes on, the rest is kept, up to MAX_STDERR."""

    def __init__(self, on_progress: Progress) -> None:
        self._on_progress = on_progress
        self._said: list[str] = []
        self._room = MAX_STDERR

    def __call__(self, line: bytes) -> None:
        found = re.fullmatch(rb"edgebench: progress ([01]\.\d\d)", line.strip())
        if found:
            self._on_progress(min(float(found.group(1)), 1.0))
        elif self._room > 0:
            self._said.append(line.decode("utf-8", "replace").rstrip()[: self._room])
            self._room -= len(self._said[-1]) + 1

    @property
    def said(self) -> str:
        return "\n".join(self._said)


@dataclass(frozen=True)
class LocalTransport:
    """This machine: a temporary folder of mode 0700, and a session of its own that is ended as a group."""

    python: str = sys.executable
    name: str = "local"
    emulated: bool = False

    def run(self, job: Job, on_progress: Progress) -> Ran:
        ear = Ear(on_progress)
        try:
            exit_code, files = agent.run_job(
                job.files, job.argv, job.fetch, ear, job.limits, self.python
            )
        except agent.JobError as error:
            raise DeviceError(error.what, error.next_step) from error
        return Ran(exit_code, files, ear.said)


@dataclass(frozen=True)
class FakeTransport:
    """A place that is a function: what the job's files and command give, without a device. For tests."""

    function: Callable[[Job], Ran | Mapping[str, bytes]]
    name: str = "fake"
    emulated: bool = False

    def run(self, job: Job, on_progress: Progress) -> Ran:
        answer = self.function(job)
        on_progress(1.0)
        return answer if isinstance(answer, Ran) else Ran(0, answer)
