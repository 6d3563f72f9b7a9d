"""`edgekd convert`."""

from __future__ import annotations

import dataclasses

from edgekd.app import convert
from edgekd.app.commands import ConvertCommand
from edgekd.app.console import Console
from edgekd.app.terminal.build import show_result


def run(command: ConvertCommand) -> int:
    """Convert, and show the report. Raises GateFailed when a gate failed."""
    console = Console()
    with console:
        result = convert.run(dataclasses.replace(command, progress=console))
    show_result(console.say, result, command.until, json=command.json)
    return 0
