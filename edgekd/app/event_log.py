"""`--log FILE`: what a build does, as one JSON object a line."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TextIO

import msgspec

from edgekd.app.arguments import PathLike
from edgekd.app.progress import Advanced, Note, Progress, StageFinished, StageStarted, Update
from edgekd.app.progress_pace import Pace
from edgekd.core.errors import RecipeError
from edgekd.core.files import reason

# Seconds between two lines about one task: enough to draw a loss curve, and little to store.
STEP_EVERY = 1.0


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. `time`: ISO 8601 with time zone. `left`: seconds until the task ends."""

    time: str
    event: Literal["stage started", "stage finished", "progress", "note"]
    stage: str = ""
    seconds: float = 0.0
    cached: bool = False
    digest: str = ""
    task: str = ""
    done: int = 0
    total: int = 0
    rate: float = 0.0
    left: float = 0.0
    figures: dict[str, float] = {}
    text: str = ""


@contextlib.contextmanager
def kept(file: PathLike | None, progress: Progress) -> Iterator[Progress]:
    """A Progress that also appends every update to a file; `progress` itself without a file.

    Raises RecipeError if the file cannot be opened.
    """
    if file is None:
        yield progress
        return
    try:
        opened = Path(file).open("a", encoding="utf-8")  # noqa: SIM115  # closed below
    except OSError as error:
        raise RecipeError(
            f"--log {file}: {reason(error)}", "name a file in a folder that exists"
        ) from None
    with opened:
        yield EventLog(opened, progress)


class EventLog:
    """A Progress that writes every update to a text file, and passes it on to another Progress."""

    def __init__(self, file: TextIO, then: Progress) -> None:
        self._file, self._then, self._pace = file, then, Pace(STEP_EVERY)

    def __call__(self, update: Update, /) -> None:
        """Log an update (the EventLog is itself a Progress)."""
        event = self._event(update)
        if event is not None:
            self._file.write(msgspec.json.encode(event).decode() + "\n")
            self._file.flush()
        self._then(update)

    def _event(self, update: Update) -> Event | None:
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        match update:
            case StageStarted():
                return Event(now, "stage started", stage=update.stage)
            case StageFinished():
                return Event(
                    now,
                    "stage finished",
                    stage=update.stage,
                    seconds=update.seconds,
                    cached=update.cached,
                    digest=update.digest,
                )
            case Note():
                return Event(now, "note", text=update.text)
            case Advanced():
                due = self._pace.due(update)
                if not due and update.done < update.total:
                    return None
                return Event(
                    now,
                    "progress",
                    task=update.task,
                    done=update.done,
                    total=update.total,
                    rate=round(self._pace.rate, 3),
                    left=round(self._pace.seconds_left(update) or 0.0, 1),
                    figures=dict(update.figures),
                )
