"""`edgekd bench`."""

from __future__ import annotations

import dataclasses
import sys

from edgekd.app import bench
from edgekd.app.commands import BenchCommand
from edgekd.app.console import Console
from edgekd.app.printing import print_json, printable
from edgekd.app.terminal.bench import show_bench, show_changes
from edgekd.device import bench_history


def run(command: BenchCommand) -> int:
    """Measure, and show the results.

    Returns the highest exit code of the profiles that failed, where others were measured.
    """
    console = Console()
    with console:
        result = bench.run(dataclasses.replace(command, progress=console))
    if command.emit is not None:
        for path in result.files:
            print(path)
        return 0
    for path in result.files:
        print(path, file=sys.stderr)
    if command.json:
        print_json(result.runs if "," in command.profile else result.runs[0])
    else:
        for measured in result.runs:
            show_bench(console.say, measured)
        if result.folder is not None:
            changes = bench_history.changes(bench_history.kept(result.folder))
            show_changes(console.say, [row for row in changes if row.later.path in result.files])
    for failure in result.failures:
        text = f"{printable(failure.profile)}: {printable(str(failure.error))}"
        print(f"edgekd: error: {text}", file=sys.stderr)
    return max((failure.error.exit_code for failure in result.failures), default=0)
