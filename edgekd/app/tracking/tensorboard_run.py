"""A run as event files of TensorBoard, with the settings as its hyperparameters.

It goes into the folder runs/NAME-TIME of the folder of the command, or into that of the environment
variable TENSORBOARD_LOGDIR in place of runs. Files of the result lie beside the event file.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.app.tracking.tracker import Start

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import (  # type: ignore[import-untyped]
        EventFileWriter,
    )

RUNS = "runs"  # as PyTorch's SummaryWriter names it


def begin(start: Start) -> TensorBoardRun:
    """Begin a run. Raises OSError for a folder that cannot be written to."""
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # type: ignore[import-untyped]
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    name = file_name(start.name)
    if start.parent:
        folder = Path(start.parent) / name
    else:
        moment = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        folder = Path(os.environ.get("TENSORBOARD_LOGDIR", RUNS)) / f"{name}-{moment}"
    folder.mkdir(parents=True, exist_ok=True)
    writer = EventFileWriter(str(folder))
    settings = hparams_pb(dict(start.settings), trial_id=str(folder))
    writer.add_event(Event(wall_time=time.time(), summary=settings))
    writer.flush()
    return TensorBoardRun(writer, folder)


def file_name(name: str) -> str:
    """A run's name in characters that are safe in file names."""
    return re.sub(r"[^\w.@-]+", "_", name)


class TensorBoardRun:
    """A Run as an event file. Its parts are in folders inside its folder."""

    def __init__(self, writer: EventFileWriter, folder: Path) -> None:
        self._writer, self._folder = writer, folder

    @property
    def identity(self) -> str:
        """The run's folder."""
        return str(self._folder)

    def point(self, curve: str, value: float, step: int) -> None:
        """A scalar."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        scalar = Summary(value=[Summary.Value(tag=curve, simple_value=value)])
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=scalar))

    def final(self, figures: Mapping[str, float]) -> None:
        """Scalars at step 0."""
        for name, value in figures.items():
            self.point(name, value, 0)
        self._writer.flush()

    def file(self, path: Path) -> None:
        """A copy in the run's folder."""
        shutil.copy(path, self._folder / path.name)

    def finish(self, failed: bool) -> None:
        """The figure `failed`, and the end of the file."""
        self.point("failed", float(failed), 0)
        self._writer.close()
