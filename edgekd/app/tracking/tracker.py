"""What an experiment tracker is to EdgeKD: one run with settings, curves, figures and files."""

from __future__ import annotations

import enum
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgekd.core.errors import MissingExtra, UnknownName

PROJECT = "edgekd"  # the experiment or project of all runs, where the environment names none


class TrackerName(enum.StrEnum):
    """The trackers. Each is an extra of EdgeKD of the same name, and a package to import."""

    MLFLOW = "mlflow"
    WANDB = "wandb"
    TENSORBOARD = "tensorboard"


@dataclass(frozen=True)
class Start:
    """How a run begins.

    `settings`: what is fixed from the start, by dotted key. `parent`: the identity of the run that
    this one is a part of, "" for none.
    """

    name: str
    settings: Mapping[str, str]
    parent: str = ""


class Run(Protocol):
    """One run in a tracker. Any call may raise anything and take any time."""

    @property
    def identity(self) -> str:
        """What a run that is a part of this one names as its parent."""

    def point(self, curve: str, value: float, step: int) -> None:
        """One point of a curve, such as "distil/loss"."""

    def final(self, figures: Mapping[str, float]) -> None:
        """Figures of the result, by name."""

    def file(self, path: Path) -> None:
        """A file of the result. It is read now, and may be gone later."""

    def finish(self, failed: bool) -> None:
        """The end of the run. Nothing is called after it."""


def named(text: str) -> TrackerName:
    """The tracker of a name. Raises UnknownName, and MissingExtra where it is not installed."""
    known = [str(name) for name in TrackerName]
    try:
        name = TrackerName(text)
    except ValueError:
        raise UnknownName("tracker", text, known, f"trackers: {', '.join(known)}") from None
    if importlib.util.find_spec(name) is None:
        raise MissingExtra(name, name, f"--track {name}")
    return name
