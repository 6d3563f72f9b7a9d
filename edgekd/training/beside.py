"""Parts of a training step that another core computes while the student's own passes run.

Training on a CPU leaves cores to the thread that renders views (`edgekd.training.threads`), which
needs a fifth of their time on a machine with two cores.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from edgekd.training import threads


def start[A](work: Callable[[], A]) -> Callable[[], A]:
    """Start to compute `work()`. The function that is returned waits for the result.

    With one core it computes the result itself. `work` must not need a gradient, and what it reads
    must not change before the result is there. Results do not depend on the number of threads.
    """
    return _worker().submit(work).result if threads.preparing() else work


@functools.cache
def _worker() -> ThreadPoolExecutor:
    """One thread, whose operators may use the cores that training leaves alone."""
    return ThreadPoolExecutor(1, "edgekd beside", threads.limit, (threads.preparing(),))
