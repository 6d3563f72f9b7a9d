"""Several builds side by side on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.table

from edgekd.app.terminal.text import Say, safe
from edgekd.reporting import comparison


def show_comparison(say: Say, body: Mapping[str, Any]) -> None:
    """Several builds, a column each (schema edgekd.comparison/1)."""
    letters = comparison.LETTERS
    for letter, build in zip(letters, body["builds"], strict=False):
        taught = f"taught by {safe(build['teacher'])}" if build["teacher"] else "without a teacher"
        say(
            f"[bold]{letter}[/]  [bold]{safe(build['name'])}[/]: {safe(build['student'] or 'no student yet')} for "
            f"{safe(build['profile'])}, {taught}, on {safe(build['data'])}, seed {build['seed']}"
        )
    if not body["same_data"]:
        say("[yellow]note[/] not the same data: the accuracies answer different questions")
    rows = [
        [
            row["name"],
            *(
                f"[bold]{text}[/]" if top else text
                for text, top in zip(
                    [safe(comparison.told(value, row["unit"])) for value in row["values"]],
                    comparison.best(row),
                    strict=True,
                )
            ),
        ]
        for row in body["figures"]
    ]
    say(_beside("figure", letters[: len(body["builds"])], rows))
    for letter, change in zip(letters, body["changes"], strict=False):
        top1 = (change or {}).get("top1")
        if top1:
            low, high = top1["ci95"]
            chance = " (may be chance)" if low <= 0 <= high else ""
            say(
                f"{letter} against A: top-1 {top1['value'] * 100:+.1f} points, 95 % {low * 100:+.1f} to {high * 100:+.1f}"
                f"{chance}"
            )
    stages = [
        [
            row["stage"],
            *("–" if found is None else f"{found['top1']:.1%}" for found in row["rows"]),
        ]
        for row in body["waterfall"]
    ]
    say(_beside("top-1 after", letters[: len(body["builds"])], stages))
    settings = [
        [safe(row["key"]), *(safe(comparison.setting(value)) for value in row["values"])]
        for row in body["settings"]
    ]
    say(
        _beside("settings that differ", letters[: len(body["builds"])], settings)
        if settings
        else "no setting differs"
    )


def _beside(head: str, letters: str, rows: Sequence[Sequence[str]]) -> rich.table.Table:
    """A table with a column a build."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    table.add_column(head, overflow="fold")
    for letter in letters:
        table.add_column(letter, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
