"""How a job reaches a device and its files come back: one narrow seam, a class a place, and the fake used in tests.

A transport makes a private folder at the device, puts the files there, runs one command in it, brings the named files
back, and leaves neither folder nor process behind, whatever happens. It knows nothing of models or benchmarks.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from edgekd.errors import DeviceError

PYTHON = "{python}"  # as argv[0]: the device's own Python, isolated (-I)
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


@dataclass(frozen=True)
class Ran:
    """How a job ended: its exit code (-N: killed by signal N), the files it left (absent ones left out), its stderr."""

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


@dataclass(frozen=True)
class LocalTransport:
    """This machine: a temporary folder of mode 0700, and a session of its own that is ended as a group."""

    python: str = sys.executable
    name: str = "local"
    emulated: bool = False

    def run(self, job: Job, on_progress: Progress) -> Ran:
        folder = Path(tempfile.mkdtemp(prefix="edgekd-"))  # mkdtemp makes it 0700
        try:
            for name, data in job.files.items():
                (folder / name).write_bytes(data)
            exit_code, stderr = self._run_in(folder, job, on_progress)
            return Ran(exit_code, _collect(folder, job.fetch), stderr)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run_in(self, folder: Path, job: Job, on_progress: Progress) -> tuple[int, str]:
        command = [self.python, "-I", *job.argv[1:]] if job.argv[0] == PYTHON else list(job.argv)
        try:
            process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE, start_new_session=True)
        except OSError as error:
            raise DeviceError(f"{command[0]} cannot be started: {error.strerror}",
                              "check that this Python is there and may be run") from error
        assert process.stderr
        said: list[str] = []
        listener = threading.Thread(target=listen, args=(process.stderr, said, on_progress), daemon=True)
        listener.start()
        try:
            exit_code = process.wait(job.timeout_s)
        except subprocess.TimeoutExpired:
            raise DeviceError(f"the job did not end within {job.timeout_s:g} s and was stopped",
                              "give a longer --timeout, fewer --runs or a smaller model") from None
        finally:  # after a timeout and Ctrl-C too; and a job that ended may have left children
            _end_group(process)
            listener.join(GRACE_S)
        return exit_code, "\n".join(said)


def listen(stream: IO[bytes], said: list[str], on_progress: Progress) -> None:
    """Read a job's stderr to its end: progress lines to `on_progress`, the rest to `said`, up to MAX_STDERR."""
    room = MAX_STDERR
    with stream:
        for line in stream:
            found = re.fullmatch(rb"edgebench: progress ([01]\.\d\d)", line.strip())
            if found:
                on_progress(min(float(found.group(1)), 1.0))
            elif room > 0:
                said.append(line.decode("utf-8", "replace").rstrip()[:room])
                room -= len(said[-1]) + 1


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End every process of the session `process` leads: ask, wait GRACE_S, kill."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _collect(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The plain files of these names; a link or a device file is not followed. Raises DeviceError over the limit."""
    found = {}
    for name in names:
        path = folder / name
        if path.is_symlink() or not path.is_file():
            continue
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise DeviceError(f"the job left {name} with {size} bytes; {MAX_FILE_BYTES} is the most that is read",
                              "run the runner by hand there and look at the file")
        found[name] = path.read_bytes()
    return found


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
