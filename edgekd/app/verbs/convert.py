"""`edgekd convert`."""

from __future__ import annotations

import dataclasses

from edgekd.app import convert
from edgekd.app.commands import ConvertCommand
from edgekd.app.console import Console
from edgekd.app.printing import print_json
from edgekd.app.terminal.build import show_report


def run(command: ConvertCommand) -> int:
    """Convert, and show the report. Raises GateFailed when a gate failed."""
    console = Console()
    with console:
        result = convert.run(dataclasses.replace(command, progress=console))
    if result.made is not None:
        if command.json:
            print_json(result.made)
        else:
            show_report(console.say, result.made, result.out, command.until)
    result.raise_if_failed()
    return 0
