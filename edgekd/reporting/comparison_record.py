"""Records of `edgekd report A B --json` (schema edgekd.comparison/1): builds side by side.

Every list named "values", "counts", "mapped" or "rows" has one place a build, in their order.
"""

from __future__ import annotations

import enum
from typing import Any, Final, Literal

from edgekd.core.intervals import Interval
from edgekd.core.records import UNSET, Record, UnsetType
from edgekd.evaluation.accuracy_record import StageState, Verdict

SCHEMA: Final = "edgekd.comparison/1"
# A setting's value, as TOML gives it. It is free-form, because each setting has a type of its own;
# None stands where a build's recipe does not have the setting.
Setting = bool | int | float | str | list[Any] | None


class Unit(enum.StrEnum):
    """What a figure counts."""

    SHARE = "share"
    POINTS = "points"
    NUMBER = "number"
    BYTES = "bytes"
    COUNT = "count"
    MS = "ms"
    KIB = "KiB"
    TEXT = "text"


class Better(enum.StrEnum):
    """Which of two figures is better."""

    MORE = "more"
    LESS = "less"
    NEITHER = ""


Value = int | float | str | None


class BuildLatency(Record, frozen=True):
    """The latency of a build on its own device, in milliseconds for one image.

    `low_ms`, `high_ms`: the 90 % interval of a prediction; None for a measurement.
    """

    latency_ms: float
    low_ms: float | None
    high_ms: float | None
    measured: bool


class BuildFigures(Record, frozen=True, kw_only=True):
    """The figures of one build with their 95 % intervals; None where its report states none.

    `stage`: the last one that was evaluated, whose accuracies they are.
    """

    stage: str | None
    top1: float | None
    top1_ci95: Interval | None
    auc: float | None
    auc_ci95: Interval | None
    latency: BuildLatency | UnsetType = UNSET
    file_bytes: int | None
    arena_bytes: int | None


class SkippedFolder(Record, frozen=True):
    """A path that was given and is no finished build. `why`: in a few words."""

    name: str
    why: str


class BuildRow(Record, frozen=True):
    """One build. Names are None where the build has not got there."""

    name: str
    profile: str
    data: str
    synthetic: bool
    n: int | None
    seed: int
    teacher: str | None
    student: str | None
    edgekd: str
    sha256: str | None
    passed: bool | None  # the certificate's verdict
    gates: list[str]
    verdict: Verdict | None
    figures: BuildFigures | UnsetType = UNSET


class FigureRow(Record, frozen=True):
    """One figure of every build; None where a report does not state it."""

    name: str
    unit: Unit
    better: Better
    values: list[Value]


class Difference(Record, frozen=True):
    """A figure less the first build's, with a 95 % interval."""

    value: float
    ci95: Interval


class BuildChange(Record, frozen=True):
    """A build's last network against the first build's. None where either has no such figure."""

    top1: Difference | None
    auc: Difference | None


class StageFigures(Record, frozen=True):
    """A stage's figures in one build."""

    top1: float
    top1_ci95: Interval
    auc: float | None
    auc_ci95: Interval | None
    state: StageState | None


class StageComparison(Record, frozen=True):
    """One stage in every build; None where a build does not have it."""

    stage: str
    rows: list[StageFigures | None]


class OpRow(Record, frozen=True):
    """How many operators of one kind each file has, and whether they run where wanted."""

    op: str
    counts: list[int]
    mapped: list[bool]


class SettingRow(Record, frozen=True):
    """A setting in which the builds differ."""

    key: str
    values: list[Setting]


class Comparison(Record, frozen=True, kw_only=True):
    """Builds side by side. `changes`: against the first build, whose own change is None.

    `skipped`: paths that were given and are no finished builds.
    """

    schema: Literal["edgekd.comparison/1"] = SCHEMA
    builds: list[BuildRow]
    same_data: bool
    figures: list[FigureRow]
    changes: list[BuildChange | None]
    waterfall: list[StageComparison]
    ops: list[OpRow]
    settings: list[SettingRow]
    skipped: list[SkippedFolder] | UnsetType = UNSET
