"""Records of the block "medical" in report.json: what a medical data set's readers ask for.

Everything is about the .tflite's own answers to the test images. Thresholds were chosen on the
validation images.
"""

from __future__ import annotations

import enum

from edgekd.core.intervals import Interval
from edgekd.core.records import Record


class PointRule(enum.StrEnum):
    """How the threshold of an operating point was chosen."""

    SENSITIVITY = "sensitivity"  # the highest threshold with at least this sensitivity
    SPECIFICITY = "specificity"  # the lowest threshold with at least this specificity
    YOUDEN = "youden"  # the largest sensitivity + specificity - 1 (Youden 1950)


class Rate(Record, frozen=True):
    """A share of `n` images, with its 95 % interval. None: there is no such image."""

    value: float | None
    n: int
    ci95: Interval | None


class OperatingPoint(Record, frozen=True, kw_only=True):
    """A threshold, and what it gives.

    `target`: the sensitivity or specificity that was asked for; None for Youden's index.
    `threshold`: of the calibrated probability; at least this is positive. `validation_*`: on the
    images that it was chosen on. `ppv`, `npv`: positive and negative predictive value, at the share
    of positives of the test images.
    """

    rule: PointRule
    target: float | None
    threshold: float
    validation_sensitivity: float
    validation_specificity: float
    sensitivity: Rate
    specificity: Rate
    ppv: Rate
    npv: Rate


class ProbabilityBin(Record, frozen=True):
    """The `n` images whose probability lies in low..high: its mean, and the share of positives."""

    low: float
    high: float
    n: int
    probability: float
    observed: float
    observed_ci95: Interval


class Calibration(Record, frozen=True):
    """How far calibrated probabilities are from what was observed.

    `ece`: expected calibration error over the bins, each weighted by its images. `floor`: what
    right probabilities would show on so few images. `brier`: mean squared error (Brier 1950).
    """

    ece: float
    floor: float
    brier: float
    bins: list[ProbabilityBin]


class Finding(Record, frozen=True, kw_only=True):
    """One finding: a label, or a class against all others.

    `points` is empty where the validation images are all positive, or none is.
    """

    label: str
    positives: int
    negatives: int
    validation_positives: int
    validation_negatives: int
    auc: float | None
    auc_ci95: Interval | None
    points: list[OperatingPoint]
    calibration: Calibration


class FindingAuc(Record, frozen=True):
    """The AUC of one finding in a group. None: all images of the group are positive, or none is."""

    label: str
    positives: int
    auc: float | None
    ci95: Interval | None


class PatientGroup(Record, frozen=True):
    """The `n` test images of a group, such as "50 to 59", and the AUC of each finding in it."""

    group: str
    n: int
    findings: list[FindingAuc]


class PatientGroups(Record, frozen=True):
    """The groups of one column, such as "age": the largest first, or the youngest for ages."""

    column: str
    groups: list[PatientGroup]


class Methods(Record, frozen=True):
    """How the intervals were made, in words."""

    shares: str
    auc: str


class Medical(Record, frozen=True, kw_only=True):
    """The block "medical". `patients`: of the `n` test images, None where they are not known.

    `left_out`: findings beyond those that are listed.
    """

    n: int
    validation_n: int
    patients: int | None
    findings: list[Finding]
    left_out: int
    groups: list[PatientGroups]
    methods: Methods
