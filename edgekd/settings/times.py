"""Times as people write them in a recipe and on the command line: "12ms"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

MILLISECONDS: Final[Mapping[str, float]] = {"us": 1e-3, "ms": 1.0, "s": 1e3}
# A time of more than zero with its unit, or nothing, as the pattern of a setting.
TIME = r"^(|(?=[0.]*[1-9])([0-9]+\.?[0-9]*|\.[0-9]+) ?(us|ms|s))$"


def milliseconds(text: str) -> float:
    """Milliseconds of a text that TIME matches; 0 for an empty one."""
    found = re.match(TIME, text)
    assert found, text  # the setting's type has checked it
    return float(found[2]) * MILLISECONDS[found[3]] if text else 0.0
