"""A build or a search with a tracker, or without one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edgekd.app.progress import Progress
from edgekd.app.tracking import tracker
from edgekd.app.tracking.background import WAIT
from edgekd.app.tracking.tracked import Tracking

# Seconds that Ctrl-C and errors wait for a tracker: long enough for a local one to close its files.
WAIT_AFTER_FAILURE = 5.0


@contextlib.contextmanager
def kept(
    name: str | None, progress: Progress, wait: float | None = None
) -> Iterator[Tracking | None]:
    """The tracker of a name, None for no name. It passes updates on to `progress`.

    `wait`: seconds that the end waits for it, at most; None for WAIT. An exception ends the run as
    failed, and goes on. Raises UnknownName, and MissingExtra where the tracker is not installed.
    """
    if name is None:
        yield None
        return
    tracking = Tracking(tracker.named(name), progress)
    try:
        yield tracking
    except BaseException:
        tracking.close(failed=True, wait=WAIT_AFTER_FAILURE)
        raise
    tracking.close(failed=False, wait=WAIT if wait is None else wait)
