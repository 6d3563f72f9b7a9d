"""What a stage is given besides its artifacts: the seed, the open data source, progress, and its checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol


class Progress(Protocol):
    """Told about long work: what it is, how much is done, and figures worth showing."""

    def __call__(self, what: str, done: int, total: int, **figures: float) -> None: ...


class Checkpoint(Protocol):
    """Where the state after the last whole epoch lies (store.Checkpoint; MemoryCheckpoint without a store)."""

    def save(self, data: bytes) -> None: ...

    def load(self) -> bytes | None: ...


def silent(what: str, done: int, total: int, **figures: float) -> None:
    """A Progress that says nothing."""


def mute(text: str) -> None:
    """A `say` that says nothing."""


class MemoryCheckpoint:
    """A Checkpoint that lives as long as the process."""

    def __init__(self) -> None:
        self.data: bytes | None = None

    def save(self, data: bytes) -> None:
        self.data = data

    def load(self) -> bytes | None:
        return self.data


@dataclasses.dataclass(frozen=True)
class Context:
    """`source` is an open `sources.Source`; only the stages data and inputs read it. `say` prints a text for a person."""

    seed: int = 0
    source: Any = None
    progress: Progress = silent
    checkpoint: Checkpoint = dataclasses.field(default_factory=MemoryCheckpoint)
    say: Callable[[str], None] = mute
