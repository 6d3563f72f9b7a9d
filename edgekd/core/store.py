"""The only writer of artifacts: content-addressed stage entries, published files, and the lock of an out folder.

    OUT/
      .lock                       held while a build runs (flock: the kernel drops it when a process dies)
      store/STAGE-KEY16/          one finished stage: entry.json and one file a blob
      store/STAGE-KEY16.part      epochs of a training that has not finished
      model.tflite, report.json   published files

An entry appears by one rename, after its bytes are on disk, so that it is either whole or absent whatever kills the
process. Every read checks the digest; an entry that does not match is set aside and the stage runs again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgekd.core.artifacts import Blob, Json, Packed, artifact_type, canonical_json, pack, unpack
from edgekd.core.errors import ModelFileError, StoreError

A = TypeVar("A")

KEY_LETTERS = (
    16  # 64 bits of the key name a folder; the full key stands in entry.json and is compared
)


@dataclass(frozen=True)
class Entry:
    """A finished stage in the store, verified when it was looked up."""

    stage: str
    key: str
    digest: str
    seconds: float
    packed: Packed

    def artifact(self) -> Any:
        """The artifact, its blobs as read-only memory maps."""
        return self.load(artifact_type(self.packed.kind))

    def load(self, cls: type[A]) -> A:
        """The artifact, its blobs as read-only memory maps."""
        return unpack(cls, self.packed)


class Store:
    """Entries and published files below one out folder. Raises StoreError for what the disk refuses."""

    def __init__(self, out: Path, shared: Path | None = None) -> None:
        self.out = out
        self.entries = shared if shared is not None else out / "store"
        for folder in (self.out, self.entries):
            if folder.exists() and not folder.is_dir():
                raise StoreError(
                    f"{folder} is a file, expected a folder", "name another folder with --out"
                )
            with _disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what a killed process left half-written; names starting with .tmp- are never read."""
        for folder in (self.out, self.entries):
            for left in folder.glob(".tmp-*"):
                pid = left.name.split("-")[2] if left.name.count("-") >= 3 else ""
                if not _alive(pid):
                    shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(
                        missing_ok=True
                    )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the out folder, or raise StoreError when another build holds it."""
        with _disk_errors(self.out):
            handle = os.open(self.out / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
                raise StoreError(
                    f"{self.out} is in use by another build (process {holder})",
                    "wait for it to end, or name another folder with --out",
                ) from None
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(handle)

    def _folder(self, stage: str, key: str) -> Path:
        return self.entries / f"{stage}-{key[:KEY_LETTERS]}"

    def find(self, stage: str, key: str) -> Entry | None:
        """The entry with this key, or None when there is none or when its bytes are not what its digest says.

        A broken entry is renamed to .broken-..., never deleted: it may be the only copy of somebody's night.
        """
        folder = self._folder(stage, key)
        if not folder.is_dir():
            return None
        try:
            record = json.loads((folder / "entry.json").read_bytes())
            blobs = {name: _map(folder / f"{name}.bin") for name in record["blobs"]}
            packed = Packed(record["kind"], record["facts"], blobs)
            if (
                record["key"] == key
                and record["stage"] == stage
                and packed.digest == record["digest"]
            ):
                return Entry(stage, key, record["digest"], record["seconds"], packed)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self._set_aside(folder)
        return None

    def _set_aside(self, folder: Path) -> None:
        for count in range(1000):
            target = folder.with_name(f".broken-{folder.name}-{count}")
            if not target.exists():
                with contextlib.suppress(OSError):
                    folder.rename(target)
                return

    def put(self, stage: str, key: str, artifact: Any, seconds: float) -> Entry:
        """Write an artifact as a finished entry; a crash at any moment leaves either the whole entry or none."""
        packed = pack(artifact)
        record = {
            "stage": stage,
            "key": key,
            "digest": packed.digest,
            "kind": packed.kind,
            "seconds": seconds,
            "facts": dict(packed.facts),
            "blobs": sorted(packed.blobs),
        }
        with _disk_errors(self.entries):
            temporary = Path(
                tempfile.mkdtemp(prefix=f".tmp-{stage}-{os.getpid()}-", dir=self.entries)
            )
            try:
                for name, blob in packed.blobs.items():
                    _write(temporary / f"{name}.bin", blob)
                _write(temporary / "entry.json", canonical_json(record))
                _sync_folder(temporary)
                folder = self._folder(stage, key)
                if (
                    folder.exists()
                ):  # another build that shares this store was faster, or the old entry is broken
                    self._set_aside(folder)
                temporary.rename(folder)
                _sync_folder(self.entries)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        found = self.find(stage, key)
        if found is None:
            raise StoreError(f"{folder} does not read back as it was written", "check the disk")
        self.checkpoint(stage, key).clear()
        return found

    def checkpoint(self, stage: str, key: str) -> Checkpoint:
        """Where a training that has not finished keeps its last whole epoch."""
        return Checkpoint(self, self.entries / f"{stage}-{key[:KEY_LETTERS]}.part")

    def publish(self, name: str, data: Blob) -> Path:
        """Write OUT/name atomically; `name` may hold folders."""
        target = self.out / name
        self._replace(target, data)
        return target

    def withdraw(self, name: str) -> None:
        """Remove a published file of an earlier build, when this build has nothing good to put there."""
        (self.out / name).unlink(missing_ok=True)

    def withdraw_below(self, folder: str, keep: Set[str]) -> None:
        """Remove published files under OUT/folder whose names ("folder/...") are not in `keep`, and folders left empty."""
        for path in sorted((self.out / folder).rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                with contextlib.suppress(OSError):  # not empty
                    path.rmdir()
            elif path.relative_to(self.out).as_posix() not in keep:
                path.unlink(missing_ok=True)

    def _replace(self, target: Path, data: Blob) -> None:
        with _disk_errors(target):
            replace(target, data)


class Checkpoint:
    """One file that holds the state after the last whole epoch of one stage under one key."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store = store
        self.path = path

    def save(self, data: bytes) -> None:
        """Replace the checkpoint atomically."""
        self._store._replace(self.path, data)

    def load(self) -> bytes | None:
        """The last checkpoint, or None."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def clear(self) -> None:
        """Forget it: the stage has finished."""
        self.path.unlink(missing_ok=True)


def replace(target: Path, data: Blob) -> None:
    """Write a file whole or not at all; its folders are made. Raises OSError, and leaves nothing behind then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{target.name}-{os.getpid()}-0")
    try:
        _write(temporary, data)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write(path: Path, data: Blob) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _map(path: Path) -> Blob:
    """A file as a read-only memory map (an empty file cannot be mapped)."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into one StoreError with the next step."""
    try:
        yield
    except OSError as error:
        steps: Mapping[int, str] = {
            errno.ENOSPC: "free some space and run the same command again: finished stages are kept",
            errno.EDQUOT: "free some of your quota and run the same command again: finished stages are kept",
            errno.EACCES: "name a folder that you may write with --out",
            errno.EROFS: "name a folder on a writable disk with --out",
            errno.ENOTDIR: "name another folder with --out",
        }
        raise StoreError(
            f"{path}: {error.strerror or error}", steps.get(error.errno or 0, "check the disk")
        ) from error


def facts_json(value: Json) -> bytes:
    """JSON as published for people: indented, sorted by meaning (insertion order), ends with a newline."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path, schema: str) -> dict[str, Any]:
    """A published JSON of the given schema. Raises ModelFileError naming the file and what is wrong with it."""
    try:
        body = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelFileError(
            f"{path} does not exist", "name the out folder of a finished `edgekd build`"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} is not readable JSON: {error}", "build it again") from None
    if not isinstance(body, dict) or body.get("schema") != schema:
        found = body.get("schema") if isinstance(body, dict) else type(body).__name__
        raise ModelFileError(
            f"{path}: expected schema {schema}, found {found!r}", "build it with this edgekd"
        )
    return body
