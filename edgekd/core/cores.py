"""How many processor cores this process may use, and work that is divided among them."""

from __future__ import annotations

import contextvars
import itertools
import multiprocessing
import os
import platform
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor


def usable() -> int:
    """The cores that the system lets this process run on; a container may have fewer than all."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> int:
    """The threads of this process: OMP_NUM_THREADS, or its share of the cores that it may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    processes = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, usable() // (int(processes) if processes.isdecimal() else 1))


def one_thread_for_numpy() -> None:
    """Let numpy's products run on one thread, where the user has not said otherwise.

    To be called before numpy is imported. The products here are small, and OpenBLAS's threads wait
    for each other at the end of each: the check of single operators took 9 s of CPU time with two
    threads and 1.6 s with one, on two busy cores. On other machines than x86, torch may use
    OpenBLAS, too.
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def nothing(_threads: int) -> None:
    """Prepare a thread that needs no preparation."""


def in_order[U, A](
    work: Callable[[U], A], units: Sequence[U], prepare: Callable[[int], None] = nothing
) -> list[A]:
    """`work(unit)` of all units, in order. Several threads compute a unit each.

    `prepare`: called once in each further thread, with the number of threads that its own library
    calls may use. `work` must give the same result in any thread, and gains only where it leaves
    Python's interpreter lock to others, as torch, numpy, ONNX Runtime and LiteRT do.
    """
    workers = min(threads(), len(units))
    if workers < 2:
        return [work(unit) for unit in units]
    inside = contextvars.copy_context()  # such as the team of processes at work

    def one(unit: U) -> A:
        return inside.copy().run(work, unit)

    with ThreadPoolExecutor(workers, "edgekd worker", prepare, (threads() // workers,)) as pool:
        return list(pool.map(one, units))


def in_processes[U, A](work: Callable[[U], A], units: Sequence[U]) -> list[A]:
    """`work(unit)` of all units, in order. On Linux, forked processes compute a unit each.

    For work that holds Python's interpreter lock, in which threads gain nothing. `work` takes one
    thread; it, its units and its answers can be pickled. Forking needs no guard in the user's
    program against being imported again. macOS forks, too, but its libraries do not bear it.
    """
    workers = min(threads(), len(units))
    if workers < 2 or sys.platform != "linux":
        return [work(unit) for unit in units]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, context, _leave_signals_to_the_parent) as pool:
        with warnings.catch_warnings():  # Python 3.12 warns of forks where there are threads
            warnings.simplefilter("ignore", DeprecationWarning)
            found = [pool.submit(work, unit) for unit in units]
        try:
            return [each.result() for each in found]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _leave_signals_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def shares(count: int) -> list[slice]:
    """`count` things in as many parts of about one size as there are threads, in order.

    One empty part where there is nothing.
    """
    parts = max(1, min(threads(), count))
    ends = [count * part // parts for part in range(parts + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]
