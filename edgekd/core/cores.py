"""How many processor cores this process may use."""

from __future__ import annotations

import os


def usable() -> int:
    """The cores that the system lets this process run on; a container may have fewer than all."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
