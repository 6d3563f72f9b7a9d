"""Folders of shards: results that grow, in files that are written once each.

    store/NAME-KEY16/
      SHARD          bytes, then their sha256 (32 bytes)
      .claim-SHARD   locked by the process that makes this shard (flock: free when it ends)

A shard is written under another name and then renamed, so it is whole or absent. Any number of
processes may fill one folder: each claims a shard, makes it and writes it. A process that is killed
loses the shard that it was making, and no other. A shard whose bytes do not match its digest is
renamed, and is then absent.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgekd.core import atomic_files, pages
from edgekd.core.artifacts import Blob, Shards, sha256

DIGEST = 32  # bytes of a sha256
# Maps that are open at a time. Each takes a file descriptor, of which a process may have 1,024.
OPEN = 256
# Seconds after which an unfinished file belongs to no process any more.
OLD = 3600


class ShardFolder:
    """The shards of one folder of the store. `name`: of the folder."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self._whole: dict[str, str] = {}
        for left in atomic_files.unfinished(path):
            # Not a file that a process on another machine writes at this moment.
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > OLD:
                    left.unlink()

    def names(self) -> list[str]:
        """The shards that are whole, sorted. A process reads each once, to check its digest."""
        if not self.path.is_dir():
            return []
        every = sorted(each.name for each in self.path.iterdir() if not each.name.startswith("."))
        return [name for name in every if self.has(name)]

    def has(self, name: str) -> bool:
        """Whether the folder has a shard of this name that is whole."""
        if name not in self._whole:
            digest = _digest(self.path / name)
            if digest is None:
                return False
            self._whole[name] = digest
        return True

    def read(self, name: str) -> Blob:
        """The bytes of a shard that the folder `has`, as a read-only memory map."""
        return _mapped(self.path / name)[:-DIGEST]

    def write(self, name: str, data: Blob) -> None:
        """Write a shard, whole or not at all."""
        digest = sha256(data)
        with atomic_files.disk_errors(self.path):
            atomic_files.replace(self.path / name, data, bytes.fromhex(digest))
        self._whole[name] = digest

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Claim a shard for this process: False while another process has claimed it."""
        claim = self.path / f".claim-{name}"
        with atomic_files.disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(claim, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
            claim.unlink(missing_ok=True)
        finally:
            os.close(handle)

    def opened(self, names: list[str]) -> Shards:
        """Some of the shards, as a part of an artifact."""
        digests = {f"{self.name}/{name}": self._whole[name] for name in names}
        return Shards(digests, functools.partial(_read, self.path.parent))


class MemoryShards:
    """A ShardFolder in memory, lost when the process ends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._data: dict[str, bytes] = {}

    def names(self) -> list[str]:
        """The shards, sorted."""
        return sorted(self._data)

    def has(self, name: str) -> bool:
        """Whether there is a shard of this name."""
        return name in self._data

    def read(self, name: str) -> Blob:
        """The bytes of a shard."""
        return self._data[name]

    def write(self, name: str, data: Blob) -> None:
        """Keep a shard."""
        self._data[name] = bytes(data)

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Nobody else can claim a shard in this process."""
        del name
        yield True

    def opened(self, names: list[str]) -> Shards:
        """Some of the shards, as a part of an artifact."""
        data = {f"{self.name}/{name}": self._data[name] for name in names}
        return Shards({name: sha256(each) for name, each in data.items()}, data.__getitem__)


def opened(store: Path, digests: Mapping[str, str]) -> Shards:
    """The shards of an artifact, by FOLDER/SHARD below `store`.

    Raises ValueError when one is absent, damaged, or not the one that the artifact was made with.
    """
    for name, digest in digests.items():
        if _digest(store / name) != digest:
            raise ValueError(f"{store / name} is not the shard that it was")
    return Shards(dict(digests), functools.partial(_read, store))


def _read(store: Path, name: str) -> Blob:
    return _mapped(store / name)[:-DIGEST]


@functools.lru_cache(maxsize=OPEN)
def _mapped(path: Path) -> Blob:
    return atomic_files.mapped(path)


def _digest(path: Path) -> str | None:
    """The sha256 of a whole shard in hex; a damaged one is renamed."""
    try:
        data = atomic_files.mapped(path)
    except FileNotFoundError:
        return None
    digest = hashlib.sha256()
    for part in pages.parts(data[:-DIGEST]):
        digest.update(part)
    if len(data) >= DIGEST and digest.digest() == bytes(data[-DIGEST:]):
        return digest.hexdigest()
    atomic_files.set_aside(path)
    _mapped.cache_clear()
    return None
