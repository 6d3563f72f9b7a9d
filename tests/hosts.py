"""Two hosts on one machine: two agents of torchrun, each with two processes.

    python tests/hosts.py share FOLDER        each process writes what it found to FOLDER/RANK.json
    python tests/hosts.py kill ARGUMENT...    `edgekd ARGUMENT...`, in which one process is killed

The processes are forked, so that none of them imports torch again.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from torch import nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from edgekd.app import cli
from edgekd.training import processes
from tests import sharing

HOSTS, EACH = 2, 2
# The process that is killed, when it averages the gradients of this step.
VICTIM, LAST_STEP = "3", 3


def share(folder: str) -> None:
    """Train in this process and the others, and write what this one found."""
    own = processes.launched()
    Path(folder, f"{own.rank}.json").write_text(json.dumps(sharing.found(own)))


def build(*arguments: str) -> None:
    """Run `edgekd ARGUMENTS`; the victim kills itself while it trains."""
    steps = 0
    average = processes.Team.average_gradients

    def last(team: processes.Team, module: nn.Module) -> None:
        nonlocal steps
        steps += 1
        if steps == LAST_STEP:
            os.kill(os.getpid(), signal.SIGKILL)
        average(team, module)

    if os.environ["RANK"] == VICTIM:
        processes.Team.average_gradients = last  # type: ignore[method-assign]
    sys.exit(cli.main(arguments))


def host(number: int, port: int, entry: Callable[..., None], arguments: list[str]) -> int:
    """Run the agent of one host; returns its exit code."""
    config = LaunchConfig(
        HOSTS,
        HOSTS,
        EACH,
        run_id="hosts",
        rdzv_backend="static",
        rdzv_endpoint=f"127.0.0.1:{port}",
        rdzv_configs={"rank": number, "timeout": 60},
        max_restarts=0,
        start_method="fork",
    )
    try:
        elastic_launch(config, entry)(*arguments)
    except ChildFailedError:
        return 1
    return 0


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    entry = {"share": share, "kill": build}[sys.argv[1]]
    hosts = []
    for number in range(HOSTS):
        if not (child := os.fork()):
            os._exit(host(number, port, entry, sys.argv[2:]))
        hosts.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in hosts]
    sys.exit(max(map(abs, codes)))
