"""`edgekd check`."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edgekd.app import check
from edgekd.app.commands import CheckCommand
from edgekd.app.console import Console
from edgekd.app.printing import print_json, printable
from edgekd.app.settings import sets
from edgekd.app.terminal.check import show_check
from edgekd.assessment import auto_fix


def run(command: CheckCommand) -> int:
    """Check, and show the answer. Raises GateFailed when the profile's limits are not met."""
    with _without_garbage_collection():
        return _run(command)


def _run(command: CheckCommand) -> int:
    if command.fix:
        found = auto_fix.fix_recipe(str(command.model), command.profile, sets(command.settings))
        found.write()
        print(printable(found.diff) or "edgekd: no edit is needed", file=sys.stderr)
        result = check.judged(found.fixed.check)
    else:
        result = check.run(command)
    if command.json:
        print_json(result.check)
    else:
        show_check(Console().say, result.check)
    result.raise_if_failed()
    return 0


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Collect no garbage now or at the end of the process.

    A check creates few objects, and the search for reference cycles takes a third of its time.
    """
    collecting = gc.isenabled()
    gc.disable()
    atexit.register(gc.freeze)  # leaves nothing for the interpreter's last search
    try:
        yield
    finally:
        if collecting:
            gc.enable()
