"""What the tables share: a way to print, and texts that cannot change the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import rich.box
import rich.console
import rich.markup
import rich.table

type Say = Callable[[rich.console.RenderableType], None]


def say_lines(say: Say, lines: Iterable[tuple[str, str]]) -> None:
    """Print (what it is about, text) pairs; long texts go on below their own beginning."""
    table = rich.table.Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for about, text in lines:
        table.add_row(f"  {about}", text)
    say(table)


def safe(text: str) -> str:
    """A user's text without markup or control characters."""
    return rich.markup.escape("".join(c if c.isprintable() else "?" for c in text))
