"""Runs one job in a private folder and leaves neither folder nor process behind.

`LocalTransport` calls `run_job` in its own process. `SshTransport` sends the text of this file to
the device's Python, which runs `serve`. So this is one file of the standard library, for Python 3.9
or newer, and it imports nothing of edgekd.

From host to device goes a header (one line of JSON: `Header`) and then the bytes of the files, in
the header's order. The stream then stays open, and its end means that the connection is gone. From
device to host go lines of `MARK JSON`. MARK is a random word that the host chose, so that the
output of a login script cannot be taken for an answer. After a "file" line come the bytes of the
file. The job's standard output is discarded; its standard error is passed on line by line.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple, NoReturn, TypedDict

PYTHON = "{python}"  # as argv[0]: the Python that runs this, isolated (-I)
MAX_LINE = 4096  # bytes of a line of the job's that are passed on at once


class Limits(NamedTuple):
    """Limits of a job.

    `timeout_s`: for the command. `grace_s`: between asking it to end and killing it. `file_bytes`:
    of one fetched file.
    """

    timeout_s: float
    grace_s: float
    file_bytes: int


class Header(TypedDict):
    """The first line that the host sends. `files`: (name, size in bytes) of each.

    `limits`: `Limits` in its order.
    """

    mark: str
    files: list[tuple[str, int]]
    argv: list[str]
    fetch: list[str]
    limits: tuple[float, float, int]


class JobError(Exception):
    """A job that could not be run to its end: what happened, and what to do."""

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step


def run_job(
    files: Mapping[str, bytes],
    argv: Sequence[str],
    fetch: Sequence[str],
    on_line: Callable[[bytes], None],
    limits: Limits,
    python: str = sys.executable,
) -> tuple[int, dict[str, bytes]]:
    """Run `argv` in a new folder (mode 0700) that holds `files`.

    Returns its exit code and those files named in `fetch` that it left. `on_line` gets each line of
    its standard error, from another thread. Raises JobError.
    """
    folder = None
    try:
        try:
            folder = Path(tempfile.mkdtemp(prefix="edgekd-"))  # mkdtemp makes it 0700
            for name, data in files.items():
                (folder / name).write_bytes(data)
        except OSError as error:
            needed = sum(len(data) for data in files.values()) / 2**20
            raise JobError(
                f"{needed:.1f} MiB cannot be written to {folder or tempfile.gettempprefix()}: "
                f"{error.strerror or error}",
                "make room in its temporary folder, or set TMPDIR there to a folder with room",
            ) from error
        exit_code = _run_in(
            folder, [python, "-I", *argv[1:]] if argv[0] == PYTHON else list(argv), on_line, limits
        )
        return exit_code, collect(folder, fetch, limits.file_bytes)
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _run_in(
    folder: Path, command: list[str], on_line: Callable[[bytes], None], limits: Limits
) -> int:
    # Another thread starts the process. An interrupt, which Python raises in the main thread, may
    # come when the process runs and Popen has not returned yet; then nobody would know what to end.
    pool = ThreadPoolExecutor(1)
    start = pool.submit(_start, folder, command)
    listener = None
    try:
        process = start.result()
        listener = threading.Thread(target=_listen, args=(process.stderr, on_line), daemon=True)
        listener.start()
        return process.wait(limits.timeout_s)
    except subprocess.TimeoutExpired:
        raise JobError(
            f"the job did not end within {limits.timeout_s:g} s and was stopped",
            "give a longer --timeout, fewer --runs or a smaller model",
        ) from None
    finally:  # after a timeout and an interrupt too; and a job that ended may have left children
        pool.shutdown()
        if start.exception() is None:
            end_group(start.result(), limits.grace_s)
        if listener is not None and listener.is_alive():
            listener.join(limits.grace_s)


def _start(folder: Path, command: list[str]) -> subprocess.Popen[bytes]:
    """The process of a command in a session of its own. Raises JobError."""
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise JobError(
            f"{command[0]} cannot be started: {error.strerror}",
            "check that this program exists and may be run",
        ) from error


def _listen(stream: IO[bytes], on_line: Callable[[bytes], None]) -> None:
    with stream:
        while line := stream.readline(MAX_LINE):
            on_line(line)


def end_group(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """End every process of the session that `process` leads: ask it, wait, then kill it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def collect(folder: Path, names: Sequence[str], limit: int) -> dict[str, bytes]:
    """{name: bytes} of the plain files among `names`; links and device files are not followed.

    Raises JobError for a file of more than `limit` bytes.
    """
    found = {}
    for name in names:
        path = folder / name
        if path.is_symlink() or not path.is_file():
            continue
        size = path.stat().st_size
        if size > limit:
            raise JobError(
                f"the job left {name} with {size} bytes; {limit} is the most that is read",
                "run the runner by hand there and look at the file",
            )
        found[name] = path.read_bytes()
    return found


# At the other end of a connection ----------------------------------------------------------------


def serve(source: IO[bytes]) -> None:
    """Run the job that `source` holds, answer on standard output, and end the process."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    header: Header = json.loads(source.readline())
    lock = threading.Lock()

    def send(message: Mapping[str, object], data: bytes = b"") -> None:
        with lock:
            answers.write(f"{header['mark']} {json.dumps(message)}\n".encode() + data)
            answers.flush()

    def stop(_number: int, _frame: object) -> NoReturn:
        raise SystemExit(1)  # unwinds through run_job, which leaves nothing behind

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    code = 0
    try:
        send({"hello": sys.version.split()[0]})
        files = {}
        for name, size in header["files"]:
            files[name] = source.read(size)
            if len(files[name]) != size:
                raise SystemExit(1)  # the connection is gone
        threading.Thread(target=_end_with_connection, daemon=True).start()
        try:
            exit_code, found = run_job(
                files,
                header["argv"],
                header["fetch"],
                lambda line: send({"line": line.decode("utf-8", "replace")}),
                Limits(*header["limits"]),
            )
        except JobError as error:
            send({"failed": error.what, "next": error.next_step})
        else:
            for name, data in found.items():
                send({"file": name, "bytes": len(data)}, data)
            send({"exit": exit_code})
    except SystemExit:
        code = 1
    except BrokenPipeError:  # the host has gone
        code = 1
    except Exception as error:  # such as out of memory, which would look like a lost connection
        send(
            {
                "failed": f"the agent failed there: {type(error).__name__}: {error}",
                "next": "run it again",
            }
        )
    os._exit(code)  # a plain exit would wait for the thread that reads the connection


def _end_with_connection() -> None:
    """Wait for the end of standard input, which is the connection, and stop the job then."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
