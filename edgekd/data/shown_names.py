"""Lists of names in messages, which stay on one screen."""

from __future__ import annotations

from collections.abc import Sequence

# A message lists this many names and counts the rest, so that it stays on one screen.
SHOWN = 10


def shown(names: Sequence[str]) -> str:
    """The first names of a list, quoted where they have odd characters, and a count of the rest."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(name if name.isprintable() else repr(name) for name in names[:SHOWN]) + more
