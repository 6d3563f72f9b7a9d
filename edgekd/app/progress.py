"""Progress of long work, reported to a callback: a function that takes one Update.

    edgekd.build(data="photos/", progress=print)

prints one line for each update, because every update has a readable `str()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgekd.core import context

if TYPE_CHECKING:
    from edgekd.pipeline.jobs import Done


@dataclass(frozen=True)
class StageStarted:
    """A stage of a build starts to run. A stage that the store already holds does not start."""

    stage: str

    def __str__(self) -> str:
        return f"{self.stage} ..."


@dataclass(frozen=True)
class StageFinished:
    """The result of a stage is there.

    `seconds`: how long the stage ran, now or when it was made. `cached`: whether the result was
    taken from the store. `digest`: SHA-256 of the result, in hexadecimal.
    """

    stage: str
    seconds: float
    cached: bool
    digest: str

    def __str__(self) -> str:
        return f"{self.stage}: {'cached' if self.cached else f'{self.seconds:.1f} s'}"


@dataclass(frozen=True)
class Advanced:
    """`done` of `total` steps of `task` are done.

    `figures`: numbers worth showing beside the progress, such as {"loss": 0.71}.
    """

    task: str
    done: int
    total: int
    figures: Mapping[str, float]

    def __str__(self) -> str:
        shown = "".join(f", {name} {value:.4g}" for name, value in self.figures.items())
        return f"{self.task}: {self.done} of {self.total}{shown}"


@dataclass(frozen=True)
class Note:
    """A text for a person, of one or more lines, such as the plan of a pruning step."""

    text: str

    def __str__(self) -> str:
        return self.text


type Update = StageStarted | StageFinished | Advanced | Note


class Progress(Protocol):
    """A callback for progress: any function that takes one Update."""

    def __call__(self, update: Update, /) -> None: ...


def silent(_update: Update, /) -> None:
    """A Progress that ignores every update."""


def steps_to(progress: Progress) -> context.Progress:
    """The function that a stage calls after each step of its work."""

    def advance(what: str, done: int, total: int, **figures: float) -> None:
        progress(Advanced(what, done, total, figures))

    return advance


def stages_to(progress: Progress) -> Callable[[str, Done | None], None]:
    """The function that the runner calls when a stage starts (None) and when it has finished."""

    def stage(name: str, done: Done | None) -> None:
        if done is None:
            progress(StageStarted(name))
        else:
            entry = done.entry
            progress(StageFinished(name, entry.seconds, done.cached, entry.digest))

    return stage


def notes_to(progress: Progress) -> Callable[[str], None]:
    """The function that a stage calls with a text for a person."""
    return lambda text: progress(Note(text))
