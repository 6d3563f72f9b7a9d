"""`edgekd bench`."""

from __future__ import annotations

import dataclasses
import itertools
import sys

from edgekd.app import bench
from edgekd.app.commands import BenchCommand
from edgekd.app.console import Console
from edgekd.app.printing import print_json, printable
from edgekd.app.results import BenchResult
from edgekd.app.terminal.bench import show_bench, show_changes
from edgekd.device import bench_history


def run(command: BenchCommand) -> int:
    """Measure, and show the results.

    Returns the highest exit code of the profiles that failed, where others were measured.
    """
    console = Console()
    with console:
        result = bench.run(dataclasses.replace(command, progress=console))
    if command.emit is not None or command.kit is not None:
        for path in result.files:
            print(path)
        return 0
    for path in result.files:
        print(path, file=sys.stderr)
    if command.json:
        print_json(result.runs[0] if _is_one(command, result) else result.runs)
    else:
        for measured, model in itertools.zip_longest(result.runs, result.models):
            show_bench(console.say, measured, model if len(result.models) > 1 else None)
        if result.folder is not None:
            changes = bench_history.changes(bench_history.kept(result.folder))
            new = set(result.files)
            # Several formats of one network that were measured together are no change.
            told = [row for row in changes if row.later.path in new and row.earlier.path not in new]
            show_changes(console.say, told)
    for failure in result.failures:
        text = f"{printable(failure.profile)}: {printable(str(failure.error))}"
        print(f"edgekd: error: {text}", file=sys.stderr)
    return max((failure.error.exit_code for failure in result.failures), default=0)


def _is_one(command: BenchCommand, result: BenchResult) -> bool:
    """Whether one measurement was asked for: of one profile, and of one model of a kit."""
    return "," not in (command.profile or "") and len(result.runs) + len(result.failures) == 1
