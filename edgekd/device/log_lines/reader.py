"""Reads a log with the table: each line with its row, and the first error of a chain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from edgekd.device.log_lines import delegate_lines
from edgekd.device.log_lines.line import LogLine, Says, Severity, bare
from edgekd.device.log_lines.table import TABLE

MAX_LINES = 20_000  # of a log that are read; a phone's log buffer holds fewer
MAX_LINE = 2_000  # characters of a line that are read; intermediate tensors fill long ones
# Words of an error in a line that is in no row and has no level
_SPEAKS_OF_ERROR = re.compile(
    r"\berror|\bfail|\babort|\bfault|\bfatal|not found|\bcannot\b|\bunable\b|denied|no such",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Found:
    """A line of a log. `line`: its row in the table, or None. `groups`: what was read from it."""

    text: str
    severity: Severity | None
    line: LogLine | None
    groups: dict[str, str]


def read_log(log: str) -> Iterator[Found]:
    """The lines of a log that are not empty, in order."""
    for raw in log.splitlines()[:MAX_LINES]:
        found = bare(raw[:MAX_LINE])
        if not found.text:
            continue
        for row in TABLE:
            groups = row.match(found.text)
            if groups is not None:
                yield Found(found.text, found.severity, row, groups)
                break
        else:
            yield Found(found.text, found.severity, None, {})


def first_error(log: str) -> str | None:
    """The line that says why a tool failed; None when nothing speaks of an error.

    Errors come as a chain, and each follows from the one before it: the first cause is taken. Where
    no line is known to be a cause, it is the first one that tells of a fault.
    """
    weaker: str | None = None
    listing = False  # inside the list of operators that a delegate leaves to the CPU, no fault
    for found in read_log(log):
        row = found.line
        if row is not None:
            listing = row is delegate_lines.UNSUPPORTED
            if row.says == Says.CAUSE:
                return found.text
            if row.says == Says.CONSEQUENCE:
                weaker = weaker or found.text
        elif listing:
            continue
        elif found.severity == Severity.ERROR:
            return found.text
        elif found.severity is None and _SPEAKS_OF_ERROR.search(found.text):
            weaker = weaker or found.text
    return weaker
