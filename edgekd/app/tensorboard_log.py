"""`--tensorboard DIR`: the figures of every training as event files, which TensorBoard draws."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgekd.app.arguments import PathLike
from edgekd.app.progress import Advanced, Progress, StageFinished, Update
from edgekd.app.progress_pace import Pace
from edgekd.core.errors import MissingExtra, RecipeError
from edgekd.core.files import reason

if TYPE_CHECKING:
    from tensorboard.summary import Writer  # type: ignore[import-untyped]

# Seconds between two points of one curve: enough to see its shape, and little to store.
POINT_EVERY = 1.0


@contextlib.contextmanager
def kept(folder: PathLike | None, progress: Progress) -> Iterator[Progress]:
    """A Progress that also writes figures to event files; `progress` itself without a folder.

    Raises MissingExtra without the package tensorboard, and RecipeError if the folder cannot be
    written to.
    """
    if folder is None:
        yield progress
        return
    try:
        from tensorboard.summary import Writer
    except ImportError:
        raise MissingExtra("tensorboard", "tensorboard", "--tensorboard") from None
    try:
        writer = Writer(str(folder))
    except OSError as error:
        raise RecipeError(
            f"--tensorboard {folder}: {reason(error)}", "name a folder that can be written to"
        ) from None
    try:
        yield TensorBoardLog(writer, progress)
    finally:
        writer.close()


class TensorBoardLog:
    """A Progress that writes figures, and passes every update on to another Progress.

    Curves are TASK/FIGURE, such as "distil/loss", and TASK/rate, in steps or images per second.
    Their steps are those of the task. A stage's time is at seconds/STAGE.
    """

    def __init__(self, writer: Writer, then: Progress) -> None:
        self._writer, self._then, self._pace = writer, then, Pace(POINT_EVERY)

    def __call__(self, update: Update, /) -> None:
        """Write an update's figures (the TensorBoardLog is itself a Progress)."""
        match update:
            case Advanced():
                # The first and the last point of a task are always written.
                if self._pace.due(update) or update.done in (1, update.total):
                    self._point(update)
            case StageFinished(cached=False):
                self._writer.add_scalar(f"seconds/{update.stage}", update.seconds, 0)
        self._then(update)

    def _point(self, update: Advanced) -> None:
        for name, value in update.figures.items():
            self._writer.add_scalar(f"{update.task}/{name}", value, update.done)
        if self._pace.rate:
            self._writer.add_scalar(f"{update.task}/rate", self._pace.rate, update.done)
