"""`edgekd report`."""

from __future__ import annotations

import dataclasses
import sys

from edgekd.app import report
from edgekd.app.commands import ReportCommand
from edgekd.app.console import Console
from edgekd.app.printing import print_json
from edgekd.app.results import ReportResult
from edgekd.app.terminal.bench import show_changes
from edgekd.app.terminal.build import show_report
from edgekd.app.terminal.builds import show_builds
from edgekd.app.terminal.comparison import show_comparison
from edgekd.app.terminal.search import show_search
from edgekd.app.terminal.slow import show_slow
from edgekd.core.errors import RecipeError
from edgekd.device import bench_history
from edgekd.reporting import comparison


def run(command: ReportCommand) -> int:
    """Show one report, a comparison, a search, or the slowest operators."""
    console = Console()
    with console:
        result = report.run(dataclasses.replace(command, progress=console))
    if command.json:
        print_json(result.records)
    elif command.html and not (command.why or command.why_slow):
        _print_page(result.html())
    else:
        _show(console, command, result)
    return 0


def _show(console: Console, command: ReportCommand, result: ReportResult) -> None:
    for slow in result.slow:
        show_slow(console.say, slow)
    if result.comparison is not None:
        show = show_comparison if comparison.beside(result.comparison) else show_builds
        show(console.say, result.comparison)
    if result.search is not None:
        show_search(console.say, result.search)
    for folder, found in zip(result.folders, result.reports, strict=False):
        show_report(console.say, found, folder, None)
        if not command.why:
            show_changes(console.say, bench_history.changes(bench_history.kept(folder)))


def _print_page(text: str) -> None:
    """Print a page of HTML on stdout. Raises RecipeError when stdout is a terminal."""
    if sys.stdout.isatty():
        raise RecipeError(
            "--html prints a page, and stdout is a terminal",
            "send it to a file: ... --html > page.html",
        )
    # The page declares UTF-8, whatever the locale says.
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stdout.write(text)
