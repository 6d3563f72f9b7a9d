"""What the tables share: a way to print, and texts that cannot change the terminal."""

from __future__ import annotations

from collections.abc import Callable

import rich.box
import rich.console
import rich.markup
import rich.table

type Say = Callable[[rich.console.RenderableType], None]


def safe(text: str) -> str:
    """A user's text without markup or control characters."""
    return rich.markup.escape("".join(c if c.isprintable() else "?" for c in text))
