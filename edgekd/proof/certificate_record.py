"""certificate.json, schema edgekd.certificate/1, as records.

`CertificateBody` is the whole file. Its blocks are in the order in which the checks run. One LSB is
the distance of two neighbouring int8 codes. A share lies between 0 and 1. A kernel family is
"xnnpack", "builtin" or "reference" (`kernel_check`).
"""

from __future__ import annotations

import enum

from msgspec import field

from edgekd.core.artifacts import Json
from edgekd.core.intervals import Interval
from edgekd.core.records import UNSET, Record, UnsetType

SCHEMA = "edgekd.certificate/1"


class Failure(Record, frozen=True, kw_only=True):
    """One difference that a check found. Exactly one of `tensor`, `op` and `file` names its place.

    `expected` and `found` are free-form JSON: a number, a text, a list, or an object such as
    {"scale", "zero_point"}.
    """

    check: str
    tensor: str | UnsetType = UNSET
    op: str | UnsetType = UNSET
    file: str | UnsetType = UNSET
    expected: Json
    found: Json
    next_step: str

    @property
    def place(self) -> str:
        """The name of the tensor, operator or file."""
        return next(name for name in (self.tensor, self.op, self.file) if isinstance(name, str))


class BoundInput(Record, frozen=True):
    """The pixels that the model expects.

    `px`: side in pixels. `channels`: "RGB" or "grey". `mean`, `std`: for each channel.
    """

    px: int
    channels: str
    mean: list[float]
    std: list[float]


class BoundGolden(Record, frozen=True):
    """The golden set: the number of images, and the sha256 of each array
    (`companion_files.digest`). `further`: by the array's name, of a file with several outputs.
    """

    images: int
    inputs: str
    logits_int8: str
    labels: str
    further: dict[str, str] | UnsetType = UNSET


class Bound(Record, frozen=True):
    """The files that the certificate belongs to: labels.txt, normalization and golden.npz."""

    labels: list[str]
    input: BoundInput
    golden: BoundGolden


class Form(Record, frozen=True):
    """How many properties of the file differ from the form that TensorFlow's converter writes."""

    deviations: int


class CheckedOps(Record, frozen=True):
    """How many operators a check covered."""

    ops: int


class WorstRange(Record, frozen=True):
    """The activation tensor that differs most from its learned range; None if all are equal."""

    tensor: str | None = None
    scale_ratio: float = 1.0
    zero_point_delta: int = 0


class Ranges(Record, frozen=True):
    """Activation tensors, and how many have the learned scale (bit for bit as float32) and zero
    point.
    """

    tensors: int
    identical: int
    worst: WorstRange


class CodeCounts(Record, frozen=True):
    """Constant tensors, and how many of their codes equal the rounded trained values."""

    tensors: int
    identical_codes: int
    total_codes: int


class WorstOp(Record, frozen=True):
    """The operator with the largest difference, and its share of elements without a difference."""

    op: str
    max_lsb: int
    share_exact: float


class Edges(Record, frozen=True):
    """Each operator of the trained graph against the file, on the file's own inputs
    (`trained_op_check`).
    """

    edges: int = 0
    max_lsb: int = 0
    share_exact: float = 1.0
    worst_op: WorstOp | None = None


class FamilyOps(Record, frozen=True, kw_only=True):
    """The operators of the file in one kernel family, against exact arithmetic.

    `histogram`: elements that differ by 0, 1, 2, and 3 or more LSB. `not_delegated` is there for
    xnnpack alone: the operators that the delegate leaves to the built-in kernels, or None where the
    runtime does not say.
    """

    ops: int
    max_lsb: int
    share_exact: float
    worst_op: WorstOp | None
    histogram: list[int]
    not_delegated: list[str] | UnsetType | None = UNSET


class OpDifferences(Record, frozen=True, kw_only=True):
    """One operator: the LSB allowed, the reason, and a histogram for each kernel family that ran
    it.
    """

    op: str
    allowed: int
    why: str
    xnnpack: list[int] | UnsetType = UNSET
    builtin: list[int] | UnsetType = UNSET
    reference: list[int] | UnsetType = UNSET


class OpLocal(Record, frozen=True):
    """Every operator in every kernel family (`kernel_check`).

    The defaults describe a file that was not run. `by_op` is absent in report.json.
    """

    ops: int = 0
    max_lsb: int = 0
    share_exact: float = 1.0
    worst_op: WorstOp | None = None
    images: int = 0
    families: dict[str, FamilyOps] = field(default_factory=dict)
    by_op: list[OpDifferences] | UnsetType = UNSET


class Agreement(Record, frozen=True):
    """The output codes of two models on the same images.

    The defaults describe a file that could not be compared. `within_one_step`: answers that differ
    although the two candidates lie within one output step of each other. `histogram` counts the
    differences of all codes by size: "0" to "7", and "8+".
    """

    argmax_agreement: float = 0.0
    within_one_step: int | UnsetType = UNSET  # absent in certificates of version 0.1.0
    mean_abs_lsb: float | None = None
    max_abs_lsb: int | None = None
    histogram: dict[str, int] = field(default_factory=dict)


class AgreementState(enum.StrEnum):
    """How the agreement compares with the least that the recipe allows."""

    HOLDS = "holds"
    TOO_FEW_IMAGES = "too few images"  # below the bound, but the 95 % interval holds the bound
    FAILS = "fails"  # the whole 95 % interval lies below the bound


class JudgedAgreement(Record, frozen=True, kw_only=True):
    """The agreement without the answers that lie within one output step of each other.

    `agreement` is a share of `answers`, and `ci95` its Wilson interval. `needed`: about how many
    answers it would take to tell `agreement` from `least`; None where it is not below `least`.
    """

    answers: int
    agreement: float
    ci95: Interval
    least: float
    state: AgreementState
    needed: int | None


class EndToEnd(Record, frozen=True, kw_only=True):
    """The file against the trained network on the test images, with the runtime's default kernels.

    `answers` says what `argmax_agreement` counts: "classes", or "label decisions" where an image
    may have several labels. `within_one_step`: as in `Agreement`. `judged`: what the gate reads.
    `families`: the same figures for each kernel family; None for a family that does not run the
    file. `answers`, `judged` and `families` are absent when the file was not run.
    """

    images: int = 0
    answers: str | UnsetType = UNSET
    argmax_agreement: float = 0.0
    within_one_step: int | UnsetType = UNSET
    judged: JudgedAgreement | UnsetType = UNSET
    mean_abs_lsb: float | None = None
    max_abs_lsb: int | None = None
    histogram: dict[str, int] = field(default_factory=dict)
    families: dict[str, Agreement | None] | UnsetType = UNSET


class FurtherOutput(Record, frozen=True, kw_only=True):
    """An output of the file beside its answers, against the trained network on golden images.

    `name`: of the tensor. `axes`: those of the trained tensor, in the order in which they lie in
    the file. `same_codes`: the share of codes that are equal. It has no gate, as LSB end to end
    have none; each operator that leads to it is checked like any other.
    """

    name: str
    shape: list[int]
    axes: list[int]
    images: int
    same_codes: float
    mean_abs_lsb: float
    max_abs_lsb: int


class Reference(Record, frozen=True, kw_only=True):
    """The same checks in TensorFlow's own interpreter, if TensorFlow is installed.

    `same_codes`: for each kernel family, the share of output codes that equal the first runtime's.
    """

    runtime: str | None = None
    argmax_agreement: float | None = None
    families: dict[str, Agreement | None] | UnsetType = UNSET
    same_codes: dict[str, float] | UnsetType = UNSET
    op_local: OpLocal | UnsetType = UNSET


class CertificateBody(Record, frozen=True, kw_only=True):
    """The whole file.

    `correspondence`: {tensor of the file: trained edge}, where the names differ. `orders`:
    {tensor of the file: the axes of the trained tensor in the file's order}, where that is neither
    NHWC for a map of NCHW nor the order of the trained tensor. `bound`,
    `structure` and `edges` are None when the .tflite was certified without the files that are
    published beside it. `failures` holds the first `failures.MAX_FAILURES` of `failures_total`.
    """

    schema: str = SCHEMA
    model_sha256: str
    onnx_sha256: str | None
    runtime: str
    bound: Bound | None
    correspondence: dict[str, str]
    orders: dict[str, list[int]] | UnsetType = UNSET
    canonical: Form
    shapes: CheckedOps
    ranges: Ranges
    weights: CodeCounts
    biases: CodeCounts
    structure: CheckedOps | None
    edges: Edges | None
    op_local: OpLocal
    end_to_end: EndToEnd
    further_outputs: list[FurtherOutput] | UnsetType = UNSET  # of a file with several outputs
    reference: Reference
    failures: list[Failure]
    failures_total: int
    passed: bool
