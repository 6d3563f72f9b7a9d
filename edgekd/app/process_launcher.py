"""`edgekd build --processes N`: starts N processes that share a build, and watches them.

Each runs the same command with the environment variables that torchrun would set. The first one
prints; when one of them ends early, all end, and one message says why.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from edgekd.app import child_processes
from edgekd.core import cores
from edgekd.core.errors import RecipeError, WorkerLost
from edgekd.training.processes import WATCHED, under_launcher

# The program that each process runs, before the words of the command line.
PROGRAM = (sys.executable, "-m", "edgekd")
HERE = "127.0.0.1"
# Seconds between two looks at the processes.
LOOK = 0.1


def run(words: Sequence[str], count: int) -> int:
    """Run `edgekd WORDS` in `count` processes. Returns 0, or the exit code of one that failed.

    Raises WorkerLost when a signal has ended one, and RecipeError under torchrun.
    """
    if under_launcher():
        raise RecipeError(
            f"--processes {count}: another launcher has started several processes already",
            "leave --processes out, or start edgekd itself",
        )
    with socket.socket() as free:  # the system chooses a port; it is free again a moment later
        free.bind((HERE, 0))
        port = free.getsockname()[1]
    workers = [
        subprocess.Popen(
            [*PROGRAM, *words],
            env=_environment(rank, count, port),
            stdout=None if rank == 0 else subprocess.DEVNULL,
        )
        for rank in range(count)
    ]
    try:
        code = _wait(workers)
    finally:
        child_processes.end(workers)  # no step of theirs can succeed without the others
    for rank, worker in enumerate(workers):
        # Those that ended because of SIGTERM were told to.
        if worker.returncode < 0 and worker.returncode != -signal.SIGTERM:
            raise _lost(rank, count, -worker.returncode)
    return code


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    """The environment of one process.

    The cores are shared out evenly, unless OMP_NUM_THREADS says otherwise: threads of several
    processes on the same core wait for each other.
    """
    return {
        "OMP_NUM_THREADS": str(max(1, cores.usable() // count)),
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": HERE,
        "MASTER_PORT": str(port),
        WATCHED: str(os.getpid()),
    }


def _wait(workers: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait until all processes have ended, or one has failed; returns its exit code, or 0."""
    while True:
        codes = [worker.poll() for worker in workers]
        failed = [code for code in codes if code]
        if failed or None not in codes:
            return failed[0] if failed else 0
        time.sleep(LOOK)


def _lost(rank: int, count: int, number: int) -> WorkerLost:
    """The error for a process that a signal has ended."""
    name = signal.Signals(number).name
    return WorkerLost(
        f"process {rank + 1} of {count} was ended by {name}",
        "the same command continues after the last whole epoch; if memory ran out, give fewer "
        "--processes",
    )
