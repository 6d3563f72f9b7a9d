"""Which file begins a run in which tracker. A tracker's package is imported when a run begins."""

from __future__ import annotations

from collections.abc import Callable

from edgekd.app.tracking.tracker import Run, Start, TrackerName


def opener(name: TrackerName) -> Callable[[Start], Run]:
    """The function that begins a run. It imports the tracker's package, which may take seconds."""

    def begin(start: Start) -> Run:
        match name:
            case TrackerName.MLFLOW:
                from edgekd.app.tracking import mlflow_run

                return mlflow_run.begin(start)
            case TrackerName.WANDB:
                from edgekd.app.tracking import wandb_run

                return wandb_run.begin(start)
            case TrackerName.TENSORBOARD:
                from edgekd.app.tracking import tensorboard_run

                return tensorboard_run.begin(start)

    return begin
