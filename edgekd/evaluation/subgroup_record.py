"""Records of the block "subgroups" in report.json: accuracy and its change in each group."""

from __future__ import annotations

import enum

import msgspec

from edgekd.core.intervals import Interval
from edgekd.core.records import Record


class GroupMetric(enum.StrEnum):
    """The figure that groups are compared by."""

    AUC = "auc"
    TOP1 = "top1"


class GroupChange(Record, frozen=True):
    """int8 less an earlier network on the same images; None where the metric has no value."""

    value: float | None
    ci95: Interval | None


class LossStep(Record, frozen=True):
    """The step of the build in which a group lost most. `stage`: the stage that makes `to`."""

    before: str = msgspec.field(name="from")
    to: str
    stage: str
    value: float


class GroupFailure(Record, frozen=True):
    """A loss beyond the budget, from the network `before` to int8."""

    before: str = msgspec.field(name="from")
    metric: GroupMetric
    value: float
    ci95: Interval
    step: LossStep


class Group(Record, frozen=True):
    """One group of test images. `networks`: each evaluated network's figure.

    `judged`: whether the group is large enough for the gate.
    """

    group: str
    n: int
    judged: bool
    networks: dict[str, float | None]
    change: GroupChange
    change_from_teacher: GroupChange | None
    failures: list[GroupFailure]


class Subgroups(Record, frozen=True):
    """The block "subgroups": the groups of one column of manifest.csv, largest first.

    `metric`: the figure that is shown; `judged_by`: the figures that the gate looks at. `whole`:
    the change on all images.
    """

    column: str
    metric: GroupMetric
    judged_by: list[GroupMetric]
    n: int
    budget: float
    whole: GroupChange
    whole_from_teacher: GroupChange | None
    groups: list[Group]
