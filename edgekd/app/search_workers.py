"""`edgekd search --workers N`: starts N processes that work for one search, and waits for them.

Each runs `main`, with the arguments of the search on its standard input. They share nothing but
the storage and the store, so that one may die without the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekd.app import child_processes, streams
from edgekd.app.progress import Note, Progress, Update
from edgekd.core import cores
from edgekd.core.artifacts import Json
from edgekd.core.errors import EdgeKDError, GateFailed, WorkerLost

if TYPE_CHECKING:
    from edgekd.app.search_arguments import Search

PROGRAM = (sys.executable, "-c", "from edgekd.app import search_workers; search_workers.main()")
# Seconds between two looks at the processes.
LOOK = 0.2


def run(asked: Search, count: int, progress: Progress) -> None:
    """Run `count` workers until they have ended.

    Raises the error of a worker that failed, and WorkerLost when signals have ended all of them.
    """
    words = pickle.dumps(dataclasses.replace(asked, progress=None))
    # Threads of several processes on the same core wait for each other.
    threads = {"OMP_NUM_THREADS": str(max(1, cores.usable() // count))}
    workers = [
        subprocess.Popen(
            PROGRAM,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**threads, **os.environ},
        )
        for _ in range(count)
    ]
    try:
        for worker in workers:
            assert worker.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                worker.stdin.write(words)
                worker.stdin.close()
        _wait(workers, progress)
    finally:
        child_processes.end(workers)
        for worker in workers:
            if worker.stdout is not None:
                worker.stdout.close()


def _wait(workers: Sequence[subprocess.Popen[bytes]], progress: Progress) -> None:
    """Wait for all workers. Raises the first error that one of them has sent."""
    waiting, ended = dict(enumerate(workers, 1)), 0
    while waiting:
        for number, worker in list(waiting.items()):
            if worker.poll() is None:
                continue
            del waiting[number]
            assert worker.stdout is not None
            sent = worker.stdout.read()
            if sent:
                raise _as_error(json.loads(sent))
            if worker.returncode == 0:
                ended += 1
            elif waiting:
                progress(
                    Note(
                        f"edgekd: worker {number} {_how(worker.returncode)}; the others take up "
                        "its work"
                    )
                )
        if waiting:
            time.sleep(LOOK)
    if not ended:
        raise WorkerLost(
            f"every worker has ended before the search was done; the last one "
            f"{_how(workers[-1].returncode)}",
            "the same command goes on; if memory ran out, give fewer --workers",
        )


def _as_error(told: Json) -> EdgeKDError:
    """What a worker has raised."""
    kind = GateFailed if told["code"] == GateFailed.exit_code else EdgeKDError
    return kind(told["what"], told["next"])


def _how(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def main() -> None:
    """Be a worker: read the arguments of the search from stdin, and send an error to stdout."""
    from edgekd.app import cli, library_warnings, search_start
    from edgekd.app.search_party import Party

    signal.signal(signal.SIGTERM, cli._interrupt)
    cores.one_thread_for_numpy()
    library_warnings.hide()
    asked: Search = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started it
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing else may be written there
    try:
        Party(search_start.prepare(asked), _notes).work_on()
    except EdgeKDError as error:
        told = {"code": error.exit_code, "what": error.what, "next": error.next_step}
        answers.write(json.dumps(told).encode())
        answers.flush()
        os._exit(error.exit_code)
    except KeyboardInterrupt:
        os._exit(130)


def _notes(update: Update, /) -> None:
    """Print what is said to people; several workers cannot share a bar."""
    if isinstance(update, Note):
        streams.complain(update.text)
