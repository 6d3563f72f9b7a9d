"""The record of report.json (schema edgekd.report/1): everything that is known about one build.

A block is absent (UNSET) while the build has not reached it. Records of blocks that other rooms
make are imported from those rooms.
"""

from __future__ import annotations

from typing import Final, Literal

from edgekd.assessment.check_record import CompilerReport, FormatLatency, MappedBlock, Prediction
from edgekd.bundle.licences_record import LicenceChain
from edgekd.core.records import UNSET, Record, UnsetType
from edgekd.data.depth_record import Depth
from edgekd.device.bench_record import Bench
from edgekd.evaluation.accuracy_record import Accuracy
from edgekd.evaluation.app_inputs_record import AppInputs
from edgekd.evaluation.confidence_record import (
    LabelConfidence,
    LogitConfidence,
    ProbabilityConfidence,
)
from edgekd.evaluation.medical_record import Medical
from edgekd.evaluation.subgroup_record import Subgroups
from edgekd.pipeline.plan_record import PlanBlock
from edgekd.proof.certificate_record import CertificateBody
from edgekd.quantization.sensitivity_record import SensitivityReport
from edgekd.reporting.network_record import EpochRow, NetworkBlock
from edgekd.settings.preset_record import PresetBlock

SCHEMA: Final = "edgekd.report/1"


class Duplicates(Record, frozen=True):
    """Images that are exact copies of others: where the copies are, and how many were dropped."""

    images: int
    across_splits: int
    across_classes: int
    dropped: int


class Unlabelled(Record, frozen=True):
    """Images without a label, which the teacher labels. The other counts are of dropped copies."""

    images: int
    in_val_or_test: int
    in_train: int
    repeated: int


class Uncertain(Record, frozen=True):
    """Labels that their author marked as uncertain. `policy`: the setting data.uncertain.

    `counts`: uncertain labels of each name. `left_out`: images that were left out of val and test
    because of one.
    """

    policy: str
    counts: dict[str, int]
    left_out: int


class DataBlock(Record, frozen=True, kw_only=True):
    """The data set. `digest`: of the decoded data set; train, val and test: images in each split.

    `counts`: images of each class in each split. `groups`: groups (such as patients) in each split.
    `ignored`: files that were not read, by reason. `skipped`: names of unreadable images.
    """

    name: str
    digest: str
    classes: list[str]
    train: int
    val: int
    test: int
    licence: str
    source: str
    synthetic: bool
    generator: int | UnsetType = UNSET  # version of the program that drew synthetic images
    fit: str
    seed: int
    counts: dict[str, dict[str, int]]
    groups: dict[str, int]
    duplicates: Duplicates
    skipped: list[str]
    ignored: dict[str, int]
    warnings: list[str]
    labels: Literal["many"] | UnsetType = UNSET  # where an image may have several labels
    labels_by: Literal["network"] | UnsetType = UNSET  # labels are the float network's own answers
    unlabelled: Unlabelled | UnsetType = UNSET
    depth: Depth | UnsetType = UNSET  # of images of more than 8 bits
    groups_by: str | UnsetType = UNSET  # what names the groups, such as "column 'patient_id'"
    uncertain: Uncertain | UnsetType = UNSET
    years: dict[str, list[int]] | UnsetType = UNSET  # first and last year of each split


class StageBlock(Record, frozen=True):
    """One stage of the build. `key`: of what would make it; `digest`: of what it made.

    `cached`: whether this run took the result from the store. `device`: what its networks ran on,
    such as "cuda:0 (NVIDIA H100 80GB HBM3), bfloat16"; absent for a stage that runs none.
    """

    stage: str
    key: str
    digest: str
    seconds: float
    cached: bool
    device: str | UnsetType = UNSET


class Port(Record, frozen=True):
    """An input or output tensor of the file. None where the tensor is not quantized per tensor."""

    name: str
    dtype: str
    shape: list[int]
    scale: float | None
    zero_point: int | None


class Artifact(Record, frozen=True):
    """The .tflite. `ops`: how many operators of each kind it has. `output`: its answers. `further`:
    its other outputs, in their order.
    """

    path: str
    sha256: str
    bytes: int
    full_integer: bool
    ops: dict[str, int]
    input: Port
    output: Port
    further: list[Port] | UnsetType = UNSET


class DeviceMemory(Record, frozen=True, kw_only=True):
    """What the file needs on the device, in bytes; see `check_record.Memory`."""

    file_bytes: int
    arena_bytes: int
    parameter_bytes: int
    busiest_op_bytes: int
    edgetpu_sram_bytes: int | UnsetType = UNSET
    edgetpu_executable_bytes: int | UnsetType = UNSET
    edgetpu_scratch_bytes: int | UnsetType = UNSET
    edgetpu_budget_bytes: int | UnsetType = UNSET
    edgetpu_cached_bytes: int | UnsetType = UNSET
    edgetpu_streamed_bytes: int | UnsetType = UNSET


class DeviceBlock(Record, frozen=True, kw_only=True):
    """What `edgekd check` says of the finished file.

    `compiler`: what the device's compiler printed; None where it is not installed, absent where the
    device has none.
    """

    predicted: Prediction
    memory: DeviceMemory
    mapped: MappedBlock
    compiler: CompilerReport | UnsetType | None = UNSET
    formats: list[FormatLatency] | UnsetType = UNSET  # only where more than int8 was asked for


class BundleBlock(Record, frozen=True):
    """The bundle of the build: the last hash of its lineage, and its size."""

    sha256: str
    files: int
    bytes: int


class Report(Record, frozen=True, kw_only=True):
    """The whole of report.json.

    `gates`: what the build failed, a sentence each; empty when it failed nothing, absent in a
    report that was written before the gates were checked. `undecided`: limits of [certify] that
    the test images are too few to decide, a sentence each.
    """

    schema: Literal["edgekd.report/1"] = SCHEMA
    edgekd: str  # the version that made the build
    profile: str
    seed: int
    data: DataBlock
    stages: list[StageBlock]
    preset: PresetBlock | UnsetType = UNSET  # absent for "standard"
    prune_preset: PresetBlock | UnsetType = UNSET  # absent for "none"
    plan: PlanBlock | UnsetType = UNSET
    models: dict[str, NetworkBlock]  # by role: "teacher", "student", "pruned"
    training: dict[str, list[EpochRow]]  # by stage
    accuracy: Accuracy | UnsetType = UNSET
    artifact: Artifact | UnsetType = UNSET
    device: DeviceBlock | UnsetType = UNSET
    certificate: CertificateBody | UnsetType = UNSET
    bench: list[Bench] | UnsetType = UNSET
    licences: LicenceChain | UnsetType = UNSET
    confidence: LogitConfidence | ProbabilityConfidence | LabelConfidence | UnsetType = UNSET
    app_inputs: AppInputs | UnsetType = UNSET
    subgroups: Subgroups | UnsetType = UNSET
    medical: Medical | UnsetType = UNSET
    why: SensitivityReport | UnsetType = UNSET
    gates: list[str] | UnsetType = UNSET
    undecided: list[str] | UnsetType = UNSET
    bundle: BundleBlock | UnsetType = UNSET
