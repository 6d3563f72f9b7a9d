"""Records of confidence.json (schema edgekd.confidence/1), which is also a block of report.json.

What the int8 outputs mean: a temperature and prediction sets where an image has one class, or a
probability and a threshold for each label where it may have several. Everything was fitted on
validation images and judged on test images.
"""

from __future__ import annotations

import enum
from typing import Final, Literal

from edgekd.core.artifacts import Json
from edgekd.core.intervals import Interval
from edgekd.core.records import UNSET, Record, UnsetType, from_json

SCHEMA: Final = "edgekd.confidence/1"


class OutputKind(enum.StrEnum):
    """What the numbers in a file's output tensor are."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"  # the file ends in SOFTMAX
    LABELS = "labels"  # a logit for each label by itself


class OutputGrid(Record, frozen=True):
    """The quantization of the output tensor: real = scale * (code - zero_point)."""

    scale: float
    zero_point: int


class FittedOn(Record, frozen=True):
    """The images that the figures were fitted on."""

    split: str
    n: int


class Sigmoid(Record, frozen=True):
    """1 / (1 + exp(-(slope * logit + offset)))."""

    slope: float
    offset: float


class CalibrationError(Record, frozen=True):
    """Expected calibration error before and after calibration, over `bins` equal bins.

    `debiased_*`: with an estimate of what chance adds taken off. `floor`: what right
    probabilities show on so few images.
    """

    before: float
    after: float
    debiased_before: float
    debiased_after: float
    floor: float
    bins: int


class BeforeAfter(Record, frozen=True):
    """A figure before and after calibration."""

    before: float
    after: float


class ReliabilityBin(Record, frozen=True):
    """One bin of a reliability plot: the answers with a confidence in low..high.

    `share` of all answers, their mean `confidence`, and the share of them that is right.
    """

    low: float
    high: float
    share: float
    confidence: float
    accuracy: float


class Reliability(Record, frozen=True):
    """The bins that hold images, before and after calibration."""

    before: list[ReliabilityBin]
    after: list[ReliabilityBin]


class ClassCoverage(Record, frozen=True):
    """How often the label of a class's `n` test images is in its prediction set."""

    n: int
    coverage: float | None


class ClassTest(Record, frozen=True):
    """What temperature and prediction sets are worth on `n` test images.

    `set_sizes`: images by the number of labels in their set. `unsure`: the share of images whose
    set is not exactly one label. `accuracy_when_sure`: None when no image is sure.
    """

    n: int
    ece: CalibrationError
    nll: BeforeAfter  # mean negative log likelihood, in nats
    coverage: float
    coverage_ci95: Interval
    coverage_by_class: list[ClassCoverage]
    set_sizes: dict[str, int]
    unsure: float
    accuracy: float
    accuracy_when_sure: float | None
    reliability: Reliability


class ClassConfidence(Record, frozen=True, kw_only=True, tag_field="kind"):
    """Confidence where an image has one class. The subclasses say what the file's outputs are.

    `coverage`: the promised share of images whose label is in its prediction set. `thresholds`:
    the lowest probability of a label in a set, one a class. `warning`: says that the test images
    contradict the promise.
    """

    schema: Literal["edgekd.confidence/1"] = SCHEMA
    output: OutputGrid
    temperature: float
    coverage: float
    thresholds: list[float]
    sigmoid: Sigmoid
    fitted_on: FittedOn
    test: ClassTest
    warning: str | UnsetType = UNSET

    @property
    def kind(self) -> OutputKind:
        """What the file's outputs are."""
        return OutputKind(str(self.__struct_config__.tag))


class LogitConfidence(ClassConfidence, frozen=True, tag="logits"):
    """Confidence of a file whose outputs are logits."""


class ProbabilityConfidence(ClassConfidence, frozen=True, tag="probabilities"):
    """Confidence of a file that ends in SOFTMAX."""


class LabelFit(Record, frozen=True):
    """One label's probability, sigmoid(slope * logit + offset), and from where it is given."""

    label: str
    slope: float
    offset: float
    threshold: float


class LabelCalibrationError(Record, frozen=True):
    """`CalibrationError` of one label, without the debiased figures."""

    before: float
    after: float
    floor: float
    bins: int


class LabelTest(Record, frozen=True):
    """What a label's probability and threshold are worth. None: no such test image.

    `positives`: the test images that have the label.
    """

    label: str
    positives: int
    ece: LabelCalibrationError
    sensitivity: float | None
    sensitivity_ci95: Interval | None
    specificity: float | None
    specificity_ci95: Interval | None


class LabelsTest(Record, frozen=True):
    """All labels on `n` test images. `right`: the share of right (image, label) decisions."""

    n: int
    right: float
    per_label: list[LabelTest]


class LabelConfidence(Record, frozen=True, kw_only=True, tag_field="kind", tag="labels"):
    """Confidence where an image may have several labels."""

    schema: Literal["edgekd.confidence/1"] = SCHEMA
    output: OutputGrid
    per_label: list[LabelFit]
    fitted_on: FittedOn
    test: LabelsTest

    @property
    def kind(self) -> OutputKind:
        """What the file's outputs are."""
        return OutputKind.LABELS


Confidence = LogitConfidence | ProbabilityConfidence | LabelConfidence
_CLASSES: dict[str, type[Confidence]] = {
    OutputKind.LOGITS: LogitConfidence,
    OutputKind.PROBABILITIES: ProbabilityConfidence,
    OutputKind.LABELS: LabelConfidence,
}


def read(body: Json, where: str) -> Confidence:
    """The record of a confidence.json. Raises ModelFileError that names the wrong field."""
    kind = body.get("kind") if isinstance(body, dict) else None
    return from_json(_CLASSES.get(str(kind), LogitConfidence), body, where)
