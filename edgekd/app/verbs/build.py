"""`edgekd build`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgekd.app import build
from edgekd.app.commands import BuildCommand
from edgekd.app.console import Console
from edgekd.app.printing import print_json
from edgekd.app.terminal.build import show_report
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
    if result.made is not None:
        if command.json:
            print_json(result.made)
        else:
            show_report(console.say, result.made, result.out, command.until)
    result.raise_if_failed()
    return 0
