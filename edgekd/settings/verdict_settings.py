"""The recipe's tables about what a build must reach, and about its documents.

[certify], [budget], [confidence], [app_inputs], [subgroups], [medical], [card] and [bench].
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from msgspec import Meta

from edgekd.settings.setting_types import Share


@dataclasses.dataclass(frozen=True)
class CertifyConfig:
    """What the certificate and the accuracy gate require."""

    min_agreement: Annotated[
        Share,
        Meta(
            description="Share of the test images for which the .tflite and the trained int8 "
            "network must give the same class. The build fails if the whole 95 % interval of the "
            "share lies below this bound. Images whose two best classes lie within one output step "
            "of each other are counted apart."
        ),
    ] = 0.995
    max_lsb: Annotated[
        int,
        Meta(
            ge=0,
            le=255,
            description="Largest difference in LSB that one operator may have on equal inputs.",
        ),
    ] = 1
    max_drop: Annotated[
        Share,
        Meta(
            description="Top-1 accuracy that may be lost from the float student to the .tflite. "
            "The build fails if the whole 95 % interval of the loss lies above this bound."
        ),
    ] = 0.02


@dataclasses.dataclass(frozen=True)
class BudgetConfig:
    """What each stage may lose against the one before. It is shown, and fails no build."""

    # ImageNet: MobileNetV1 distilled from ResNet-50 loses 3 to 6 points (mdistiller).
    student_top1: Annotated[
        Share, Meta(description="Top-1 accuracy that the student may lose against the teacher.")
    ] = 0.05
    # Chest X-rays: mobilenetv2_050 distilled from a ViT-S lost 0.021.
    student_auc: Annotated[
        Share, Meta(description="AUC that the student may lose against the teacher.")
    ] = 0.03
    # MobileNetV1 at 0.75 lost 0.5 points (TinyNN); EdgeKD cuts deeper than that.
    pruned_top1: Annotated[Share, Meta(description="Top-1 accuracy that pruning may lose.")] = 0.01
    # The same ratio of AUC to top-1 as for QAT: 0.6 AUC points for 1 point of top-1.
    pruned_auc: Annotated[Share, Meta(description="AUC that pruning may lose.")] = 0.006
    # QAT of MobileNetV1, V2 and ResNet-50 lost 0 to 0.8 points on ImageNet (TFMOT, NVIDIA).
    qat_top1: Annotated[Share, Meta(description="Top-1 accuracy that QAT may lose.")] = 0.005
    # AUC moves less than top-1: images far from the threshold keep their order.
    qat_auc: Annotated[Share, Meta(description="AUC that QAT may lose.")] = 0.003
    # From QAT to ONNX, TFLite and the device only rounding may change an answer, which is possible
    # when the two largest logits are close. Of 1,248 X-rays in two builds, 99 % of the logits moved
    # by at most 4 LSB between QAT and ONNX, and a margin is the difference of two logits. No image
    # with a margin above 3 LSB changed its answer.
    rounding_lsb: Annotated[
        float,
        Meta(
            ge=0,
            le=255,
            description="A changed answer counts as rounding if its logits were at most this "
            "close, in LSB.",
        ),
    ] = 8.0
    # In the same builds rounding moved the AUC by at most 0.0006.
    rounding_auc: Annotated[Share, Meta(description="AUC that rounding may change.")] = 0.002


@dataclasses.dataclass(frozen=True)
class ConfidenceConfig:
    """When the deployed model answers "unsure"."""

    coverage: Annotated[
        float,
        Meta(
            ge=0.5,
            le=0.999,
            description="Share of the images whose true label must be in the prediction set.",
        ),
    ] = 0.9


@dataclasses.dataclass(frozen=True)
class SubgroupConfig:
    """Accuracy per group, and what a group may lose from the float student to the .tflite."""

    column: Annotated[
        str,
        Meta(
            description="The column of manifest.csv that names the groups. Empty: no report by "
            "group."
        ),
    ] = ""
    columns: Annotated[
        tuple[str, ...],
        Meta(
            description="Columns by whose groups the medical report gives the AUC. auto: sex, age "
            "and view, as far as the data have them. Ages are put together in decades. Unlike "
            "column, these fail no build."
        ),
    ] = ("auto",)
    max_drop: Annotated[
        Share,
        Meta(
            description="AUC, or top-1, that a group may lose beyond what all images together lose."
        ),
    ] = 0.05
    # In a smaller group a single image is more than the default max_drop.
    min_images: Annotated[
        int,
        Meta(
            ge=0,
            le=10**9,
            description="Groups with fewer test images are shown, but not judged.",
        ),
    ] = 20


@dataclasses.dataclass(frozen=True)
class AppInputsConfig:
    """What the int8 file is worth in apps that prepare images in other ways than deployment.json.

    It is shown, and fails no build.
    """

    # Of 256 images one is 0.4 points. They take about 10 s with a student of 96 px.
    images: Annotated[
        int,
        Meta(
            ge=0,
            le=10**6,
            description="Number of test images that are prepared as apps do. 0: none.",
        ),
    ] = 256
    max_drop: Annotated[
        Share,
        Meta(description="Top-1 accuracy that a way to prepare images may lose unflagged."),
    ] = 0.01


@dataclasses.dataclass(frozen=True)
class MedicalConfig:
    """The report's figures for medical data: operating points, AUC by group, calibration."""

    report: Annotated[
        Literal["auto", "yes", "no"],
        Meta(
            description="Whether the report has them. auto: for data that name patients' sex, age "
            "or view, or whose name or source says that they are medical."
        ),
    ] = "auto"
    sensitivity: Annotated[
        Share,
        Meta(
            description="Sensitivity of the first operating point: the highest threshold that "
            "reaches it on the validation images."
        ),
    ] = 0.95
    specificity: Annotated[
        Share,
        Meta(
            description="Specificity of the second operating point: the lowest threshold that "
            "reaches it on the validation images."
        ),
    ] = 0.95


@dataclasses.dataclass(frozen=True)
class CardConfig:
    """What the bundle's documents say about who made the model, and for what."""

    name: Annotated[
        str, Meta(description="Name of the model. Empty: made from data, student and profile.")
    ] = ""
    author: Annotated[str, Meta(description="Who made the model.")] = ""
    version: Annotated[str, Meta(description="Version of the model.")] = "1.0"
    licence: Annotated[
        str, Meta(description="Licence of the bundle. Empty: what the licences of its parts allow.")
    ] = ""
    data_licence: Annotated[
        str, Meta(description="Licence of the images, if the data source does not state it.")
    ] = ""
    unlabelled_licence: Annotated[
        str, Meta(description="Licence of the images in data.unlabelled.")
    ] = ""
    teacher_licence: Annotated[
        str,
        Meta(
            description="Licence of the teacher's weights. Empty: the one that the weights, or the "
            "model file, state. teacher.terms says the same for each of several teachers."
        ),
    ] = ""
    student_licence: Annotated[
        str,
        Meta(
            description="Licence of the student's first weights. Empty: the one that the weights, "
            "or the model file, state."
        ),
    ] = ""
    use: Annotated[
        Literal["any", "non-commercial", "commercial"],
        Meta(
            description='Intended use. With "commercial" a part under a non-commercial licence '
            "fails the build."
        ),
    ] = "any"
    intended_use: Annotated[
        str, Meta(description="What the model is for, in words for its users.")
    ] = ""
    limits: Annotated[
        str, Meta(description="What the model must not be used for, in words for its users.")
    ] = ""


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """The benchmark on this host that ends every build."""

    # The bounds are the runner's own, edgebench.LIMITS.
    runs: Annotated[int, Meta(ge=1, le=20_000, description="Number of timed inferences.")] = 50
    min_seconds: Annotated[
        float, Meta(ge=0, le=150, description="Repeat inferences for at least this long, in s.")
    ] = 1.0
    # One thread is repeatable, and the same on every host.
    threads: Annotated[int, Meta(ge=1, le=256, description="Number of threads.")] = 1
