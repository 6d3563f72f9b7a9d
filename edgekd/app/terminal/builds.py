"""Many builds on the terminal: a line for each, the best first, and how their settings differ."""

from __future__ import annotations

import collections

import rich.box
import rich.table

from edgekd.app.terminal.text import Lines, Say, safe
from edgekd.reporting.builds_table import MEASURED, Cell, Column, Table, state, table
from edgekd.reporting.comparison_record import Comparison

SHORT = ("latency", "file")  # columns beside accuracy and gates that fit into 80 columns
GATES = {"good": "[green]passed[/]", "bad": "[red]failed[/]", "open": "[dim]not done[/]"}
NAME = 27  # letters of a build's name in a line: what the figures leave of 80 columns
MOST_VALUES = 6  # of a setting that are named; the others are counted


def show_builds(say: Say, comparison: Comparison) -> None:
    """The builds, then the settings in which they differ."""
    rows = table(comparison)
    say(f"[bold]{len(rows.builds)} builds[/], the highest {rows.ranked} first")
    if not comparison.same_data:
        say("[yellow]note[/] not the same data, so the accuracies cannot be compared")
    say(_table(rows))
    latencies = [cell.bound for one in rows.columns if one.head == "latency" for cell in one.cells]
    if MEASURED in latencies:
        say("* measured; the other latencies are predicted")
    elif any(latencies):
        say("the latencies are predicted")
    differ = [(safe(one.head), _values(one)) for one in rows.columns if one.key]
    if differ:
        say("settings that differ")
        say(Lines(differ))
    else:
        say("no setting differs")


def _table(rows: Table) -> rich.table.Table:
    """One row for each build, with the interval of its accuracy."""
    shown = [one for one in rows.columns if one.head in (rows.ranked, *SHORT)]
    made = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    made.add_column("build", overflow="fold")
    for one in shown:
        made.add_column(one.head, justify="right", no_wrap=True)
    made.add_column("gates", no_wrap=True)
    for number, build in enumerate(rows.builds):
        cells = [_cell(one.cells[number], one.head) for one in shown]
        name = "\n".join(map(safe, broken(build.name)))
        made.add_row(name, *cells, GATES[state(build)[0]])
    return made


def _cell(cell: Cell, head: str) -> str:
    """A figure with its interval; of a latency, whether it was measured. The page has all."""
    if head == "latency":
        return f"{safe(cell.text)}{' *' if cell.bound == MEASURED else ''}"
    return f"{safe(cell.text)} [dim]{safe(cell.bound)}[/]" if cell.bound else safe(cell.text)


def broken(name: str) -> list[str]:
    """A name in lines of at most NAME letters, broken after a sign such as "-" where it has one."""
    lines: list[str] = []
    while len(name) > NAME:
        cut = 1 + max(name.rfind(sign, 0, NAME) for sign in "-_/. ")
        lines.append(name[: cut or NAME])
        name = name[cut or NAME :]
    return [*lines, name]


def _values(column: Column) -> str:
    """Each value of a setting, with the number of its builds."""
    counts = collections.Counter(cell.text for cell in column.cells)
    named = [f"{text} ({count})" for text, count in counts.most_common(MOST_VALUES)]
    more = len(counts) - len(named)
    return safe(", ".join(named) + (f" and {more} more values" if more > 0 else ""))
