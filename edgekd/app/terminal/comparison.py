"""Several builds side by side on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import rich.box
import rich.table

from edgekd.app.terminal.text import Say, safe
from edgekd.reporting.comparison import LETTERS
from edgekd.reporting.comparison_figures import best, setting, told
from edgekd.reporting.comparison_record import Comparison, FigureRow


def show_comparison(say: Say, body: Comparison) -> None:
    """Several builds, a column each."""
    letters = LETTERS[: len(body.builds)]
    for letter, build in zip(letters, body.builds, strict=True):
        taught = f"taught by {safe(build.teacher)}" if build.teacher else "without a teacher"
        say(
            f"[bold]{letter}[/]  [bold]{safe(build.name)}[/]: "
            f"{safe(build.student or 'no student yet')} for {safe(build.profile)}, {taught}, on "
            f"{safe(build.data)}, seed {build.seed}"
        )
    if not body.same_data:
        say("[yellow]note[/] not the same data, so the accuracies cannot be compared")
    say(_beside("figure", letters, [_figure(row) for row in body.figures]))
    for letter, change in zip(letters, body.changes, strict=True):
        if change is not None and change.top1 is not None:
            low, high = change.top1.ci95
            chance = " (may be chance)" if low <= 0 <= high else ""
            say(
                f"{letter} against A: top-1 {change.top1.value * 100:+.1f} points, 95 % "
                f"{low * 100:+.1f} to {high * 100:+.1f}{chance}"
            )
    stages = [
        [row.stage, *("–" if found is None else f"{found.top1:.1%}" for found in row.rows)]
        for row in body.waterfall
    ]
    say(_beside("top-1 after", letters, stages))
    settings = [
        [safe(row.key), *(safe(setting(value)) for value in row.values)] for row in body.settings
    ]
    differ = _beside("settings that differ", letters, settings)
    say(differ if settings else "no setting differs")


def _figure(row: FigureRow) -> list[str]:
    """A figure's name, and its value in each build, the best one bold."""
    texts = [safe(told(value, row.unit)) for value in row.values]
    marked = zip(texts, best(row), strict=True)
    return [row.name, *(f"[bold]{text}[/]" if top else text for text, top in marked)]


def _beside(head: str, letters: str, rows: Sequence[Sequence[str]]) -> rich.table.Table:
    """A table with a column a build."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    table.add_column(head, overflow="fold")
    for letter in letters:
        table.add_column(letter, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
