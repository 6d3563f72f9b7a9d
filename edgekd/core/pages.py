"""Pages of memory-mapped files: they are given back, so that a build's memory does not grow with
its images.

The system counts a page of a mapped file as memory of the process from its first read on. A build
that has read every image would then hold as much memory as all images have bytes. A page that is
given back stays in the system's file cache, and the next read of it costs about a microsecond.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

# Bytes of one map that may be in memory at a time. It is far above what a batch reads.
RESIDENT = 128 << 20
# Linux maps up to 64 KiB around a page that is read (fault-around), so a short read counts as that.
AROUND = 64 << 10
# Bytes that are hashed or written at a time.
PART = 16 << 20


def _map_of(data: Any) -> mmap.mmap | None:
    """The memory map in which bytes or an array lie; None where they lie in ordinary memory."""
    while data is not None and not isinstance(data, mmap.mmap):
        data = data.obj if isinstance(data, memoryview) else getattr(data, "base", None)
    return data


def release(data: Any) -> None:
    """Give back the pages of the memory map in which `data` lies: bytes, a view, or a numpy array.

    The contents stay: those of a map that may be written are in the file. Does nothing for data in
    ordinary memory, and where the system has no `madvise`.
    """
    found = _map_of(data)
    if found is not None and hasattr(mmap, "MADV_DONTNEED"):
        found.madvise(mmap.MADV_DONTNEED)


def parts(data: bytes | memoryview) -> Iterator[memoryview]:
    """The data in parts of at most PART bytes, whose pages are given back one part at a time."""
    view = memoryview(data)
    if view.nbytes:  # an empty view cannot be cast
        view = view.cast("B")
        for start in range(0, len(view), PART):
            yield view[start : start + PART]
            release(data)


class Resident:
    """Gives back the pages of one memory map whenever about RESIDENT bytes of it have been used."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self._used = 0

    def used(self, pieces: int, size: int) -> None:
        """Note that `pieces` pieces of `size` bytes each were read or written."""
        self._used += pieces * max(size, AROUND)
        if self._used >= RESIDENT:
            release(self._data)
            self._used = 0
