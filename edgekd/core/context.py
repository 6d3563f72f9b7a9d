"""What a stage gets besides its artifacts: seed, data source, progress report, and checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol


class Progress(Protocol):
    """Is called during long work: what it is, how much of `total` is done, and figures to show."""

    def __call__(self, what: str, done: int, total: int, **figures: float) -> None: ...


class Checkpoint(Protocol):
    """Keeps the state after the last whole epoch: `store.Checkpoint`, or `MemoryCheckpoint`."""

    def save(self, data: bytes) -> None: ...

    def load(self) -> bytes | None: ...


def silent(what: str, done: int, total: int, **figures: float) -> None:
    """A Progress that shows nothing."""


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


@dataclasses.dataclass(frozen=True)
class Context:
    """What every stage gets.

    `source`: the open `data.sources.Source`, which only the stages data and inputs read. `say`:
    prints a text for the user.
    """

    seed: int = 0
    source: Any = None  # data.sources.Source; core may not import data
    progress: Progress = silent
    checkpoint: Checkpoint = dataclasses.field(default_factory=MemoryCheckpoint)
    say: Callable[[str], None] = mute
