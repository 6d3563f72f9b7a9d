"""How a build divides the cores of this machine among its threads.

torch shares the work of one operator among threads that wait for each other at its end. On two
cores of which another process takes a part, such a step took five to fifteen times as long. A core
is therefore left to a thread that prepares the next batches and waits for nobody, and to the parts
of a loss that the student's passes do not wait for (`edgekd.training.beside`). A teacher's blocks
of images are computed by threads of their own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

from edgekd.core import cores

# One thread in so many prepares batches. Rendering the views took a fifth of the time of a step
# (MobileNetV2 0.5 at 96 px, batches of 32).
PREPARING = 4


def total() -> int:
    """The threads of this process: OMP_NUM_THREADS, or its share of the cores that it may use."""
    return cores.threads()


def preparing() -> int:
    """The threads that render views while others train; 0 where there is one thread in all."""
    return 0 if total() == 1 else max(1, total() // PREPARING)


def training() -> contextlib.AbstractContextManager[None]:
    """A context in which torch's operators leave the threads of `preparing` alone."""
    return _operators(total() - preparing())


def computing() -> contextlib.AbstractContextManager[None]:
    """A context in which torch's operators have all threads, since none prepares anything."""
    return _operators(total())


def alone() -> contextlib.AbstractContextManager[None]:
    """A context in which each of torch's operators has one thread.

    For short work of many small operators, such as the capture of a student: their threads would
    wait for each other longer than they compute, and five times as long on cores that are busy.
    """
    return _operators(1)


@contextlib.contextmanager
def _operators(count: int) -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def limit(count: int) -> None:
    """Let torch's operators that are called from this thread use `count` threads."""
    import torch

    torch.set_num_threads(count)


def in_order[U, A](work: Callable[[U], A], units: Sequence[U]) -> list[A]:
    """`work(unit)` of all units, in order. Several threads compute a unit each with torch.

    Results do not depend on the number of threads.
    """
    return cores.in_order(work, units, limit)
