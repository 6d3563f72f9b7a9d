"""What a stage gets besides its artifacts: seed, data source, progress report, and checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from edgekd.core import artifacts
from edgekd.core.artifacts import Blob, Json
from edgekd.core.shard_folders import MemoryShards


class Progress(Protocol):
    """Is called during long work: what it is, how much of `total` is done, and figures to show."""

    def __call__(self, what: str, done: int, total: int, **figures: float) -> None: ...


class Checkpoint(Protocol):
    """Keeps the state after the last whole epoch: `store.Checkpoint`, or `MemoryCheckpoint`."""

    def save(self, data: bytes) -> None: ...

    def load(self) -> bytes | None: ...


class Shards(Protocol):
    """A folder of shards: `shard_folders.ShardFolder`, or `MemoryShards`.

    Any number of processes may fill it. Each claims a shard, makes it, and writes it.
    """

    @property
    def name(self) -> str: ...

    def names(self) -> list[str]: ...

    def has(self, name: str) -> bool: ...

    def read(self, name: str) -> Blob: ...

    def write(self, name: str, data: Blob) -> None: ...

    def claim(self, name: str) -> AbstractContextManager[bool]: ...

    def opened(self, names: list[str]) -> artifacts.Shards: ...


def silent(what: str, done: int, total: int, **figures: float) -> None:
    """A Progress that shows nothing."""


def unrecorded(device: str) -> None:
    """A `ran_on` that keeps no record."""


def mute(text: str) -> None:
    """A `say` that prints nothing."""


class MemoryCheckpoint:
    """A Checkpoint in memory, lost when the process ends."""

    def __init__(self) -> None:
        self.data: bytes | None = None

    def save(self, data: bytes) -> None:
        self.data = data

    def load(self) -> bytes | None:
        return self.data


class MemoryFolders:
    """Folders of shards in memory, by what is kept in them."""

    def __init__(self) -> None:
        self._folders: dict[bytes, MemoryShards] = {}

    def __call__(self, what: Json) -> Shards:
        text = artifacts.canonical_json(what)
        return self._folders.setdefault(text, MemoryShards(f"memory-{artifacts.sha256(text)[:16]}"))


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What a stage's networks run on, as `[run]` of a recipe says it.

    `device`: "auto", "cpu", "cuda", "cuda:N" or "mps". `precision`: "auto", "float32", "bfloat16"
    or "float16". `cuda_graphs`: whether training steps may be captured as CUDA graphs. None of it
    is part of a stage's key. A stage that is called alone, as in a test, runs on the CPU.
    """

    device: str = "cpu"
    precision: str = "auto"
    cuda_graphs: bool = True


@dataclasses.dataclass(frozen=True)
class Context:
    """What every stage gets.

    `source`: the open `data.sources.Source`, which only the stages data and inputs read. `say`:
    prints a text for the user. `hardware`: what networks run on. `ran_on`: is called with the
    device, in words, by a stage that runs a network.
    `answers(what)`: the folder of shards for the answers of a teacher;
    `what` is JSON that says what decides them. `pause_after`: the epochs after which a stage that
    can pause raises `pause.Paused`; None where it trains to the end.
    """

    seed: int = 0
    source: Any = None  # data.sources.Source; core may not import data
    progress: Progress = silent
    checkpoint: Checkpoint = dataclasses.field(default_factory=MemoryCheckpoint)
    say: Callable[[str], None] = mute
    hardware: Hardware = Hardware()
    ran_on: Callable[[str], None] = unrecorded
    answers: Callable[[Json], Shards] = dataclasses.field(default_factory=MemoryFolders)
    pause_after: int | None = None
