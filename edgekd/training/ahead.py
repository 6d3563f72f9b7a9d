"""Prepares the next batches in a thread of its own, while other threads or a GPU compute."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterable, Iterator

from edgekd.training import threads

# Batches that are ready beside the one in use: one hides the time of an average batch, two more a
# batch that is late.
AHEAD = 3
# Seconds between two looks whether the reader has gone.
LOOK = 0.1


class _Failed:
    """An exception of the thread, on its way to the reader."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


def ahead[B](batches: Iterable[B], wanted: bool = True) -> Iterator[B]:
    """The same batches in the same order, up to AHEAD of them prepared by a thread.

    Without `wanted` they are prepared when they are asked for. An exception of `batches` is raised
    here. The thread ends with the last batch, or when the iterator is closed.
    """
    if not wanted:
        yield from batches
        return
    ready: queue.Queue[object] = queue.Queue(AHEAD)
    closed = threading.Event()

    def put(item: object) -> bool:
        while not closed.is_set():
            try:
                ready.put(item, timeout=LOOK)
            except queue.Full:
                continue
            return True
        return False

    def prepare() -> None:
        try:
            threads.limit(max(1, threads.preparing()))
            for batch in batches:
                if not put(batch):
                    return
            put(_END)
        except BaseException as error:
            put(_Failed(error))

    # The thread sees the same context variables, such as the team of processes at work.
    inside: Callable[[Callable[[], None]], None] = contextvars.copy_context().run
    thread = threading.Thread(target=inside, args=(prepare,), name="edgekd batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failed):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        closed.set()
        thread.join()
