"""The store: the results of finished stages, the published files, and the lock of an out folder.

    OUT/
      .lock                       locked while a build runs (flock: the kernel unlocks it at exit)
      store/STAGE-KEY16/          one finished stage: entry.json, and one file for each blob
      store/STAGE-KEY16.part      checkpoint of a training that has not finished
      store/answers-KEY16/        the answers of one teacher, in shards (`shard_folders`)
      store/.claim-STAGE-KEY16    locked while a process of several makes this stage
      model.tflite, report.json   published files

An entry is written under another name, synced to disk, and then renamed. So it is either whole or
absent, however the process ends. Every read checks the digest. An entry that does not match is
renamed, and its stage runs again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgekd.core import atomic_files, files, shard_folders
from edgekd.core.artifacts import Blob, Json, artifact_type, canonical_json
from edgekd.core.atomic_files import disk_errors
from edgekd.core.entry_file import EntryFile
from edgekd.core.errors import ModelFileError, StoreError
from edgekd.core.packing import Packed, pack, unpack
from edgekd.core.records import UNSET, present, to_json
from edgekd.core.shard_folders import ShardFolder

A = TypeVar("A")

# Hex digits of the key in a folder's name: 64 bits. entry.json has the full key, which is compared.
KEY_LETTERS = 16
# How the name of a file begins that processes lock. It stays: to remove it while another process
# waits for it would let a third one in.
CLAIM = ".claim-"
LOOK = 0.5  # seconds between two looks at a file that another process has locked


@dataclass(frozen=True)
class Entry:
    """A finished stage in the store, whose digest has been checked.

    `seconds`: how long it ran. `device`: what its networks ran on, "" where it runs none.
    """

    stage: str
    key: str
    digest: str
    seconds: float
    packed: Packed
    device: str = ""

    def artifact(self) -> Any:
        """The artifact, with its blobs as read-only memory maps."""
        return self.load(artifact_type(self.packed.kind))

    def load(self, cls: type[A]) -> A:
        """The artifact as an instance of `cls`. Raises ValueError when it is of another class."""
        return unpack(cls, self.packed)


class Store:
    """Entries and published files of one out folder.

    `shared`: a folder for the entries that several builds use, instead of OUT/store. Raises
    StoreError for errors of the disk.
    """

    def __init__(self, out: Path, shared: Path | None = None) -> None:
        self.out = out
        self.entries = shared if shared is not None else out / "store"
        for folder, option in ((self.out, "--out"), (self.entries, "--store")):
            if files.exists(folder, option) and not files.is_folder(folder, option):
                raise StoreError(
                    f"{folder} is a file, expected a folder", f"name another folder with {option}"
                )
            with disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        """Remove unfinished files of killed processes. Names with .tmp- are never read."""
        for folder in (self.out, self.entries):
            for left in atomic_files.unfinished(folder):
                with contextlib.suppress(OSError):  # a file of another user: it does no harm
                    shutil.rmtree(left) if left.is_dir() else left.unlink()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the out folder. Raises StoreError when another build has locked it."""
        with disk_errors(self.out):
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
        """The entry with this key, or None when it is absent or damaged.

        A damaged entry is renamed to .broken-..., and not deleted: it may be the only copy of the
        result of a long training.
        """
        folder = self._folder(stage, key)
        if not files.is_folder(folder):
            return None
        try:
            stored = msgspec.json.decode((folder / "entry.json").read_bytes(), type=EntryFile)
            blobs = {name: atomic_files.mapped(folder / f"{name}.bin") for name in stored.blobs}
            shards = {
                name: shard_folders.opened(self.entries, digests)
                for name, digests in (present(stored.shards) or {}).items()
            }
            packed = Packed(stored.kind, stored.facts, blobs, shards)
            if (stored.stage, stored.key, stored.digest) == (stage, key, packed.digest):
                device = present(stored.device) or ""
                return Entry(stage, key, stored.digest, stored.seconds, packed, device)
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
            pass
        atomic_files.set_aside(folder)
        return None

    def put(self, stage: str, key: str, artifact: Any, seconds: float, device: str = "") -> Entry:
        """Write an artifact as a finished entry. A crash leaves either the whole entry or none."""
        packed = pack(artifact)
        stored = EntryFile(
            stage=stage,
            key=key,
            digest=packed.digest,
            kind=packed.kind,
            seconds=seconds,
            facts=dict(packed.facts),
            blobs=sorted(packed.blobs),
            device=device or UNSET,
            shards={name: part.digests for name, part in packed.shards.items()} or UNSET,
        )
        with disk_errors(self.entries):
            temporary = Path(
                tempfile.mkdtemp(prefix=f".tmp-{stage}-{atomic_files.writer()}-", dir=self.entries)
            )
            try:
                for name, blob in packed.blobs.items():
                    atomic_files.write(temporary / f"{name}.bin", blob)
                atomic_files.write(temporary / "entry.json", canonical_json(to_json(stored)))
                atomic_files.sync_folder(temporary)
                folder = self._folder(stage, key)
                # Another build that shares this store was faster, or the old entry is damaged.
                if folder.exists():
                    atomic_files.set_aside(folder)
                temporary.rename(folder)
                atomic_files.sync_folder(self.entries)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        found = self.find(stage, key)
        if found is None:
            raise StoreError(f"{folder} does not read back as it was written", "check the disk")
        self.checkpoint(stage, key).clear()
        return found

    def checkpoint(self, stage: str, key: str) -> Checkpoint:
        """The checkpoint of a training: its state after the last whole epoch."""
        return Checkpoint(self, self.entries / f"{stage}-{key[:KEY_LETTERS]}.part")

    @contextlib.contextmanager
    def alone(self, name: str, key: str, meanwhile: Callable[[], None]) -> Iterator[None]:
        """Wait until no other process is in this block with the same `name` and `key`.

        `meanwhile()` is called every LOOK seconds of waiting, and may raise to give up. The
        operating system ends the claim of a process that is killed. Processes of several machines
        exclude each other where the shared disk passes flock on, as NFS does.
        """
        claim = self.entries / f"{CLAIM}{name}-{key[:KEY_LETTERS]}"
        with disk_errors(claim):
            handle = os.open(claim, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            while not _locked(handle):
                meanwhile()
                time.sleep(LOOK)
            yield
        finally:
            os.close(handle)

    def shards(self, name: str, key: str) -> ShardFolder:
        """The folder of shards with this key: results that grow, and that builds share."""
        return ShardFolder(self.entries / f"{name}-{key[:KEY_LETTERS]}")

    def publish(self, name: str, data: Blob) -> Path:
        """Write OUT/name atomically. `name` may contain folders."""
        target = self.out / name
        self._replace(target, data)
        return target

    def withdraw(self, name: str) -> None:
        """Remove the published file of an earlier build that this build does not replace."""
        with disk_errors(self.out / name):
            (self.out / name).unlink(missing_ok=True)

    def withdraw_below(self, folder: str, keep: Set[str]) -> None:
        """Remove published files below OUT/folder, except those in `keep`, and empty folders.

        `keep` holds names relative to OUT, such as "bundle/README.md".
        """
        for path in sorted((self.out / folder).rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                with contextlib.suppress(OSError):  # not empty
                    path.rmdir()
            elif path.relative_to(self.out).as_posix() not in keep:
                with disk_errors(path):
                    path.unlink(missing_ok=True)

    def _replace(self, target: Path, data: Blob) -> None:
        with disk_errors(target):
            atomic_files.replace(target, data)


def _locked(handle: int) -> bool:
    """Lock an open file, or return False where another process has locked it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Checkpoint:
    """One file: the state after the last whole epoch of a stage with a certain key."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store = store
        self.path = path

    def save(self, data: bytes) -> None:
        """Replace the checkpoint atomically."""
        self._store._replace(self.path, data)

    def load(self) -> bytes | None:
        """The last checkpoint, or None."""
        with disk_errors(self.path):
            try:
                return self.path.read_bytes()
            except FileNotFoundError:
                return None

    def clear(self) -> None:
        """Remove the checkpoint, since the stage has finished."""
        with disk_errors(self.path):
            self.path.unlink(missing_ok=True)


def facts_json(value: Json) -> bytes:
    """JSON text for readers: indented, keys in their own order, with a newline at the end.

    As `json.dumps(value, indent=1)` writes it, which takes five times as long: Python's encoder in
    C does not indent.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return msgspec.json.format(text.encode(), indent=1) + b"\n"


def read_json(path: Path, schema: str) -> dict[str, Any]:
    """A published JSON file of the given schema, as plain JSON.

    Use `records.from_json` on the result where there is a record for it. Raises ModelFileError
    that names the file and what is wrong.
    """
    try:
        body = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelFileError(
            f"{path} does not exist", "name the out folder of a finished `edgekd build`"
        ) from None
    except OSError as error:
        raise ModelFileError(
            f"{path}: {files.reason(error)}", "name the out folder of a finished `edgekd build`"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{path} is not readable JSON: {error}", "run the same `edgekd build` again"
        ) from None
    if not isinstance(body, dict) or body.get("schema") != schema:
        found = body.get("schema") if isinstance(body, dict) else type(body).__name__
        raise ModelFileError(
            f"{path}: expected schema {schema}, found {found!r}",
            "build it again with this version of edgekd",
        )
    return body
