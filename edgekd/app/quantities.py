"""Times and sizes as people write them on the command line: 15ms, 2MB, 1.5h.

Each function raises argparse.ArgumentTypeError, to which argparse adds the name of the argument.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping

from edgekd.settings.times import MILLISECONDS

SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def latency(text: str) -> float:
    """Milliseconds of "15ms" or "0.5s"."""
    return _read(text, MILLISECONDS, "a time with its unit", "15ms or 0.2s")


def duration(text: str) -> float:
    """Seconds of "90m" or "1.5h"."""
    return _read(text, SECONDS, "a time with its unit", "90m or 1.5h")


def size(text: str) -> int:
    """Bytes of "2MB" (2,000,000) or "512KiB" (524,288)."""
    return round(_read(text, BYTES, "a size with its unit", "2MB or 512KiB"))


def _read(text: str, units: Mapping[str, float], expected: str, examples: str) -> float:
    found = _NUMBER.fullmatch(text)
    factor = None if found is None else units.get(found[2].lower())
    if found is None or factor is None:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected {expected} ({', '.join(units)}); write {examples}"
        )
    value = float(found[1]) * factor
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected more than zero; write {examples}")
    return value


def spoken(seconds: float) -> str:
    """A time for a person: "2 h", "1 h 5 min", "12 min", "45 s"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
