"""Files that are written whole or not at all, and what becomes of a damaged one."""

from __future__ import annotations

import contextlib
import errno
import functools
import mmap
import os
import platform
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgekd.core import files, pages
from edgekd.core.artifacts import Blob
from edgekd.core.errors import StoreError

# Seconds after which an unfinished file of another machine belongs to no process any more.
OLD = 3600


def replace(target: Path, *data: Blob) -> None:
    """Write a file whole or not at all, and make its folders. After an OSError nothing is left.

    `data`: the contents, in pieces.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{target.name}-{writer()}-0")
    try:
        write(temporary, *data)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write(path: Path, *data: Blob) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        for piece in data:
            for part in pages.parts(piece):
                file.write(part)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def mapped(path: Path) -> Blob:
    """A file as a read-only memory map, or b"" for an empty file, which cannot be mapped."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def set_aside(path: Path) -> None:
    """Rename a damaged file or folder to .broken-..., which nothing reads."""
    for count in range(1000):
        target = path.with_name(f".broken-{path.name}-{count}")
        if not target.exists():
            with contextlib.suppress(OSError):
                path.rename(target)
            return


def writer() -> str:
    """This process, as it stands in the name of an unfinished file: its number and its machine."""
    return f"{os.getpid()}.{_machine()}"


@functools.cache
def _machine() -> str:
    """What tells machines that share a disk apart, in letters and digits."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def unfinished(folder: Path) -> list[Path]:
    """The unfinished files in a folder of processes that do not run any more.

    Whether a process of another machine runs is not known: its files count after OLD seconds.
    """
    found = []
    for left in folder.glob(".tmp-*"):
        process = left.name.split("-")[-2] if left.name.count("-") >= 3 else ""
        pid, _, machine = process.partition(".")
        if machine in ("", _machine()):
            if not _alive(pid):
                found.append(left)
        else:
            with contextlib.suppress(OSError):  # it is finished now
                if time.time() - left.stat().st_mtime > OLD:
                    found.append(left)
    return found


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


AGAIN = "run the same command again: finished stages are kept"


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a StoreError that names the next step."""
    try:
        yield
    except OSError as error:
        steps: Mapping[int, str] = {
            errno.ENOSPC: f"free some space, then {AGAIN}",
            errno.EDQUOT: f"free some of your quota, then {AGAIN}",
            errno.EACCES: "name a folder that you may write to with --out",
            errno.EROFS: "name a folder on a writable disk with --out",
            errno.ENOTDIR: "name another folder with --out",
            errno.EEXIST: "name another folder with --out",
            errno.EISDIR: "remove the folder of that name, or name another one with --out",
        }
        number = error.errno or 0
        raise StoreError(
            f"{error.filename or path}: {files.reason(error)}",
            steps.get(number) or files.next_step(error) or "check the disk",
        ) from error
