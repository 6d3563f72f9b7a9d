"""Records of the block "accuracy" in report.json: each stage's figures, and what changed.

All shares and areas are in 0..1. An `Interval` is a 95 % interval, lower bound first.
"""

from __future__ import annotations

import enum

from edgekd.core.intervals import Interval
from edgekd.core.number_formats import NumberFormat
from edgekd.core.records import UNSET, Record, UnsetType


class Metric(enum.StrEnum):
    """What "top1" is a share of."""

    TOP1 = "top1"  # images, each of exactly one class
    LABEL_DECISIONS = "label_decisions"  # (image, label) pairs, where an image may have several
    AGREEMENT = "agreement"  # images without labels: of the answers that the float network gives


class StageState(enum.StrEnum):
    """How a stage's loss compares with its budget."""

    FIRST = "first"  # no stage comes before it
    WITHIN = "within"
    UNCLEAR = "unclear"  # beyond the budget, but the loss may be chance
    BEYOND = "beyond"


class VerdictState(enum.StrEnum):
    """Whether any stage of the build is beyond its budget."""

    GOOD = "good"
    UNCLEAR = "unclear"
    BAD = "bad"


class Change(Record, frozen=True):
    """What a network gains over the one before it, measured on the same images. A loss is negative.

    The areas are None where a class has no image.
    """

    top1: float
    top1_ci95: Interval
    top1_p: float  # exact two-sided sign test: the chance of so uneven a split of flipped images
    auc: float | None
    auc_ci95: Interval | None


class LabelFigures(Record, frozen=True):
    """One label of several. A figure is None where the test images cannot give it."""

    auc: float | None
    auc_ci95: Interval | None
    positives: int  # images that have the label
    sensitivity: float | None  # at a probability of 0.5, as is the specificity
    specificity: float | None


class Figures(Record, frozen=True, kw_only=True):
    """One network on one set of `n` images."""

    n: int
    top1: float
    top1_ci95: Interval
    auc: float | None
    auc_ci95: Interval | None
    per_label: list[LabelFigures] | UnsetType = UNSET  # where an image may have several labels


class Flips(Record, frozen=True):
    """How the answers changed between two networks: the share that agrees, lost, and gained."""

    agree_with_previous: float
    flips_bad: int
    flips_good: int


class FlippedImage(Record, frozen=True):
    """One answer that changed between right and wrong. `margin_lsb`: the stage before's margin.

    A margin is counted in steps (LSB) of the file's 8-bit output; None where there is no file.
    """

    name: str
    label: str
    was: str
    now: str
    margin_lsb: float | None


class FlippedImages(Record, frozen=True):
    """The answers that a stage lost ("bad") and gained ("good"), largest margin first."""

    bad: list[FlippedImage]
    good: list[FlippedImage]


class StageBudget(Record, frozen=True, kw_only=True):
    """What a stage may lose. `rounding_lsb`: stages that only round may flip answers this close."""

    top1: float
    auc: float
    rounding_lsb: float | UnsetType = UNSET


class StageRow(Record, frozen=True, kw_only=True):
    """One stage's network on the test images, and what changed since the stage before it.

    The first stage has neither change nor budget. Early versions of EdgeKD wrote no change, budget,
    state or verdict at all.
    """

    stage: str
    top1: float
    top1_ci95: Interval
    auc: float | None
    auc_ci95: Interval | None
    per_label: list[LabelFigures] | UnsetType = UNSET
    agree_with_previous: float | None
    flips_bad: int
    flips_good: int
    change: Change | UnsetType = UNSET
    flipped: FlippedImages | UnsetType = UNSET
    budget: StageBudget | UnsetType = UNSET
    beyond_rounding: int | UnsetType | None = UNSET  # answers that rounding cannot have changed
    state: StageState | UnsetType = UNSET
    verdict: str | UnsetType = UNSET


class DeviceRow(Record, frozen=True):
    """The newest result that came back from the device itself: `n` stored images."""

    stage: str  # "device"
    profile: str
    emulated: bool
    n: int
    top1: float
    top1_ci95: Interval
    agree_with_previous: float
    max_abs_lsb: int | None
    state: StageState
    verdict: str


class Verdict(Record, frozen=True):
    """The first stage that is beyond its budget, or None where there is none.

    `notes`: what else is beyond its budget, a sentence each.
    """

    stage: str | None
    state: VerdictState
    text: str
    notes: list[str]
    next_step: str | None = None


class Paired(Record, frozen=True):
    """How the intervals of changes were made."""

    method: str
    paper: str
    draws: int
    seed: int
    test: str


class FormatRow(Record, frozen=True, kw_only=True):
    """The file of one number format on `n` test images, compared with the float student.

    `agree_with_float`: the share of answers that are the float student's. `change`: what it gains
    over the float student. `path`: in the out folder. `input`, `output`: types of the tensors.
    """

    format: NumberFormat
    n: int
    top1: float
    top1_ci95: Interval
    auc: float | None
    auc_ci95: Interval | None
    agree_with_float: float
    agree_ci95: Interval
    change: Change
    path: str
    sha256: str
    bytes: int
    input: str
    output: str


class FurtherAccuracy(Record, frozen=True, kw_only=True):
    """An output of the .tflite beside its answers, against the float network's.

    `name`: of the tensor. `shape`: of the file's tensor. `axes`: those of the float network's
    output, in the order in which they lie in the file. `images`: of the test split, that were
    compared. `cosine`: the mean over them. `sqnr_db`: signal to noise of all their values, in
    decibels.
    """

    name: str
    shape: list[int]
    axes: list[int]
    images: int
    cosine: float
    sqnr_db: float


class FailedFormat(Record, frozen=True):
    """A number format that was asked for and is not there. `message`: of the library."""

    format: NumberFormat
    message: str


class Confusion(Record, frozen=True):
    """Images by true class (rows) and answer (columns), both in the order of `classes`."""

    classes: list[str]
    counts: list[list[int]]


class Accuracy(Record, frozen=True, kw_only=True):
    """The block "accuracy". Its waterfall has a row for each evaluated network, in build order."""

    split: str
    n: int
    metric: Metric = Metric.TOP1
    waterfall: list[StageRow]
    paired: Paired | UnsetType = UNSET
    verdict: Verdict | UnsetType = UNSET
    confusion: Confusion | UnsetType = UNSET  # only where an image has exactly one class
    int8: Change | UnsetType = UNSET  # from the float student to the .tflite
    against_teacher: Change | UnsetType = UNSET  # from the teacher to the .tflite
    device: DeviceRow | UnsetType = UNSET
    # int8 first; both lists are absent where nothing but int8 was asked for
    formats: list[FormatRow] | UnsetType = UNSET
    formats_failed: list[FailedFormat] | UnsetType = UNSET

    further_outputs: list[FurtherAccuracy] | UnsetType = UNSET  # of a file with several outputs

    def row(self, stage: str) -> StageRow | None:
        """The row of a stage, or None when its network was not evaluated."""
        return next((row for row in self.waterfall if row.stage == stage), None)
