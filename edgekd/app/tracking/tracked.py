"""Runs of one tracker that cannot fail: a search's with its parts, or a single build's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgekd.app.progress import Advanced, Note, Progress, StageFinished, Update
from edgekd.app.progress_pace import Pace
from edgekd.app.tracking import trackers
from edgekd.app.tracking.background import Background
from edgekd.app.tracking.secrets import hidden
from edgekd.app.tracking.tracker import Run, Start, TrackerName

# Seconds between two points of one curve: enough to see its shape, and little to store.
POINT_EVERY = 1.0
# Characters of a setting's value; MLflow takes no more than 6,000.
LONGEST = 500


class TrackedRun:
    """One run. Every call returns at once, and does nothing after a failure of the tracker."""

    def __init__(
        self,
        background: Background,
        name: TrackerName,
        start: Start,
        parent: TrackedRun | None = None,
    ) -> None:
        self._background, self._tracker = background, name
        self._run: Run | None = None
        settings = {key: hidden(value)[:LONGEST] for key, value in start.settings.items()}

        def begin() -> None:
            identity = parent.identity() if parent else ""
            self._run = trackers.opener(name)(Start(hidden(start.name), settings, identity))

        background.do(begin)

    def identity(self) -> str:
        """The run's identity, "" before it has begun. For the tracker's own thread."""
        return self._run.identity if self._run else ""

    def part(self, name: str, settings: Mapping[str, str]) -> TrackedRun:
        """A run that is a part of this one, such as a trial of a search."""
        return TrackedRun(self._background, self._tracker, Start(name, settings), self)

    def point(self, curve: str, value: float, step: int) -> None:
        """One point of a curve."""
        self._background.do(lambda: self._begun.point(curve, value, step))

    def final(self, figures: Mapping[str, float]) -> None:
        """Figures of the result."""
        self._background.do(lambda: self._begun.final(figures))

    def file(self, path: Path) -> None:
        """A file of the result."""
        self._background.do(lambda: self._begun.file(path))

    def finish(self, failed: bool = False) -> None:
        """The end of the run."""
        self._background.do(lambda: self._begun.finish(failed))

    @property
    def _begun(self) -> Run:
        if self._run is None:
            raise RuntimeError("the run has not begun")
        return self._run


class Tracking:
    """A tracker, as a Progress that also draws curves into a run and passes every update on.

    Curves are TASK/FIGURE, such as "distil/loss", over the steps of the task. A stage's time is
    the figure seconds/STAGE.
    """

    def __init__(self, name: TrackerName, then: Progress) -> None:
        self._name, self._then = name, then
        self._background, self._pace = Background(), Pace(POINT_EVERY)
        self._run: TrackedRun | None = None

    def start(self, name: str, settings: Mapping[str, str]) -> TrackedRun:
        """Begin the run that the curves are drawn into."""
        self._run = TrackedRun(self._background, self._name, Start(name, settings))
        return self._run

    def __call__(self, update: Update, /) -> None:
        """Draw an update (the Tracking is itself a Progress)."""
        if self._run is not None:
            self._draw(self._run, update)
        self._then(update)
        self._tell()

    def _draw(self, run: TrackedRun, update: Update) -> None:
        match update:
            case Advanced():
                # The first and the last point of a task are always drawn.
                if self._pace.due(update) or update.done in (1, update.total):
                    for name, value in update.figures.items():
                        run.point(f"{update.task}/{name}", value, update.done)
            case StageFinished():
                run.final({f"seconds/{update.stage}": update.seconds})

    def close(self, failed: bool, wait: float) -> None:
        """End the run, and say what went wrong with the tracker."""
        if self._run is not None:
            self._run.finish(failed)
        self._background.close(wait)
        self._tell()

    def _tell(self) -> None:
        if failure := self._background.failure():
            text = f"--track {self._name} stopped, and the rest goes on untracked: {failure}"
            self._then(Note(f"edgekd: warning: {text}"))
