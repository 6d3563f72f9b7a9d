"""Makes text that comes from a device safe to print."""

from __future__ import annotations

MAX_TEXT = 500  # characters that are kept: enough for a message, and little for a flood


def clean(text: str) -> str:
    """A device's text as one line that is safe on a terminal, of at most MAX_TEXT characters.

    Control, format and line characters become spaces.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_TEXT]
