"""`edgekd build`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgekd.app import build
from edgekd.app.commands import BuildCommand
from edgekd.app.console import Console
from edgekd.app.terminal.build import show_result
from edgekd.training import processes


def run(command: BuildCommand) -> int:
    """Build, and show the report. Raises GateFailed when a gate failed."""
    if not processes.launched().main:
        job = build.prepare(command)
        out = Path(command.out or build.BUILDS / build.default_name(job))
        build.follow(job, out, build.shared_store(command), command.until)
        return 0
    console = Console()
    with console:
        result = build.run(dataclasses.replace(command, progress=console))
    show_result(console.say, result, command.until, json=command.json)
    return 0
