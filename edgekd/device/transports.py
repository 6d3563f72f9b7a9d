"""How a job reaches a device and its files come back: one narrow interface, this machine, and a
fake for tests.

A transport makes a private folder on the device, puts the files there, runs one command in it and
brings the named files back. It leaves neither folder nor process behind, whatever happens. It knows
nothing of models or benchmarks. The other transports are in ssh.py, adb.py and emulate.py.
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
from edgekd.device.agent import PYTHON as PYTHON  # part of this module's interface
from edgekd.device.agent import Limits

MAX_FILE_BYTES = 16 * 2**20  # of a file brought back; a bench JSON of 20,000 samples has 0.4 MB
MAX_STDERR = 64 * 2**10  # characters of the job's stderr that are kept
GRACE_S = 5.0  # between asking a job to end and killing it

Progress = Callable[[float], None]  # is called with a share from 0 to 1


@dataclass(frozen=True)
class Job:
    """One command to run on a device. Raises ValueError for a file name that is not plain.

    `files`: the files for its folder, by plain name. `argv`: the command, run in that folder;
    PYTHON as its first word stands for the device's Python. `fetch`: names of the files to bring
    back. `timeout_s`: for the command alone.
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
    def limits(self) -> Limits:
        """As `agent.run_job` takes them."""
        return Limits(self.timeout_s, GRACE_S, MAX_FILE_BYTES)


@dataclass(frozen=True)
class Ran:
    """How a job ended.

    `exit_code`: -N for a job that was killed by signal N. `files`: the fetched files that the job
    left. `stderr`: what it wrote there, without the progress.
    """

    exit_code: int
    files: Mapping[str, bytes]
    stderr: str = ""


class Transport(Protocol):
    """A place where jobs run. `name` goes into the bench JSON; times from an `emulated` place are
    void.

    `run` raises DeviceError when the place cannot be reached, the command cannot be started, it
    does not end in time, or a file is larger than MAX_FILE_BYTES. A command that ends with an error
    is a `Ran`. `on_progress` may be called from another thread.
    """

    @property
    def name(self) -> str: ...

    @property
    def emulated(self) -> bool: ...

    def run(self, job: Job, on_progress: Progress) -> Ran: ...


class Deadline:
    """Calls `stop` once after `seconds`, unless `end` comes before.

    `passed` says whether it was called.
    """

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


class StderrReader:
    """Takes a job's standard error line by line: reports its progress, and keeps up to MAX_STDERR
    of the rest.
    """

    def __init__(self, on_progress: Progress) -> None:
        self._on_progress = on_progress
        self._kept: list[str] = []
        self._room = MAX_STDERR

    def __call__(self, line: bytes) -> None:
        found = re.fullmatch(rb"edgebench: progress ([01]\.\d\d)", line.strip())
        if found:
            self._on_progress(min(float(found.group(1)), 1.0))
        elif self._room > 0:
            self._kept.append(line.decode("utf-8", "replace").rstrip()[: self._room])
            self._room -= len(self._kept[-1]) + 1

    @property
    def text(self) -> str:
        """The lines that were kept."""
        return "\n".join(self._kept)


@dataclass(frozen=True)
class LocalTransport:
    """This machine: a temporary folder of mode 0700, and a session of processes that is ended as a
    whole.
    """

    python: str = sys.executable
    name: str = "local"
    emulated: bool = False

    def run(self, job: Job, on_progress: Progress) -> Ran:
        stderr = StderrReader(on_progress)
        try:
            exit_code, files = agent.run_job(
                job.files, job.argv, job.fetch, stderr, job.limits, self.python
            )
        except agent.JobError as error:
            raise DeviceError(error.what, error.next_step) from error
        return Ran(exit_code, files, stderr.text)


@dataclass(frozen=True)
class FakeTransport:
    """A function in the place of a device, for tests: from a job to what the device would give
    back.
    """

    function: Callable[[Job], Ran | Mapping[str, bytes]]
    name: str = "fake"
    emulated: bool = False

    def run(self, job: Job, on_progress: Progress) -> Ran:
        answer = self.function(job)
        on_progress(1.0)
        return answer if isinstance(answer, Ran) else Ran(0, answer)
