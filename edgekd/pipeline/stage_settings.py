"""The settings of each stage: one frozen dataclass a stage. They are passed to the stage's function
and hashed into its key.

This module loads neither torch nor numpy.
"""

from __future__ import annotations

import dataclasses

from edgekd.core.artifacts import Json
from edgekd.core.number_formats import NumberFormat
from edgekd.core.resizer_names import Resizer
from edgekd.networks.low_rank_plan import LayerPrices
from edgekd.pipeline.hashed_only import HashedOnly
from edgekd.pipeline.pretrain_settings import PretrainSettings, UnlabelledSettings
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import (
    AppInputsConfig,
    BenchConfig,
    CertifyConfig,
    ConfidenceConfig,
    ConvertConfig,
    DataConfig,
    DistilConfig,
    FederatedConfig,
    PruneConfig,
    QatConfig,
    TeacherConfig,
    ViewsConfig,
)
from edgekd.training.oracle_settings import OracleSettings


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Settings of the stage "data".

    `fingerprint`: the source's contents. `federated`: how training images are divided among
    clients, and `parts_sha256` the contents of the file that it names.
    """

    config: DataConfig
    fingerprint: HashedOnly[str]
    federated: FederatedConfig | None = None
    parts_sha256: HashedOnly[str] = ""


@dataclasses.dataclass(frozen=True)
class InputsSettings:
    """Settings of the stage "inputs": `px`, the side of the student's input, and the recipe's table
    [data].

    `resizers`: those of [views], for the calibration images. `frame`: [height, width] of what the
    file takes where it resizes images itself.
    """

    px: int
    fit: str
    calibration: int
    golden: int
    channels: str
    resizers: tuple[Resizer, ...] = (Resizer.PILLOW,)
    frame: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class TransformerTuning:
    """How a pretrained transformer is fine-tuned, as the recipe's table [teacher] says it."""

    layer_decay: float
    drop_path: float
    head_first: bool


@dataclasses.dataclass(frozen=True)
class TeacherSettings:
    """Settings of a teacher's stage. `px`: the side of its input.

    `weights_content`: sha256 of the file `config.weights`, or the version of the package that holds
    the weights. `tuning`: of a pretrained transformer that is fine-tuned, else None.
    """

    config: TeacherConfig
    model: ModelSpec
    view: ViewsConfig
    px: int
    weights_content: HashedOnly[str] = ""
    tuning: TransformerTuning | None = None


@dataclasses.dataclass(frozen=True)
class GivenTeacherSettings:
    """Settings of a teacher's stage when the teacher is a finished network of the user's.

    `digest`: of its contents. `batch`, `precision`: as in the recipe's table [teacher].
    """

    config: ConvertConfig
    digest: HashedOnly[str]
    batch: int
    precision: str


@dataclasses.dataclass(frozen=True)
class KnowledgeSettings:
    """Settings of the stage "knowledge" when teachers are asked.

    `average`: over how many views of an image their answers are averaged.
    """

    view: ViewsConfig
    oracle: OracleSettings
    average: int = 1


@dataclasses.dataclass(frozen=True)
class LogSettings:
    """Settings of the stage "knowledge" when a file of logged answers takes the teacher's place."""

    path: str
    max_days: float
    file_sha256: HashedOnly[str] = ""


@dataclasses.dataclass(frozen=True)
class ClientSettings:
    """Settings of the stage "knowledge" when clients' answers take the teacher's place."""

    config: FederatedConfig
    distil: DistilConfig
    model: ModelSpec
    view: ViewsConfig
    px: int
    channels: str = "3"
    weights_content: HashedOnly[str] = ""


@dataclasses.dataclass(frozen=True)
class DistilSettings:
    """Settings of the stage "distil".

    `px`: the side of the student's input. `oracle`: how the teacher is asked during training
    (`config.answers` "live" or "corrected"); None where it is not. `groups_sha256`: of the file
    `config.groups`. `frame`: as in `InputsSettings`, where views have several resizers.
    """

    config: DistilConfig
    model: ModelSpec
    view: ViewsConfig
    px: int
    channels: str = "3"
    oracle: OracleSettings | None = None
    weights_content: HashedOnly[str] = ""
    groups_sha256: HashedOnly[str] = ""
    frame: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class GivenSettings:
    """Settings of the stage "distil" when a finished network of the user's takes the student's
    place.

    `digest`: of its contents.
    """

    config: ConvertConfig
    digest: HashedOnly[str]


@dataclasses.dataclass(frozen=True)
class AnsweredSettings:
    """Settings of the stage "data" when the float network's answers take the labels' place.

    `unread`: up to so many training images, nothing reads their labels: no network trains on them,
    and all of them calibrate.
    """

    config: DataConfig
    fingerprint: HashedOnly[str]
    unread: int


@dataclasses.dataclass(frozen=True)
class PruneSettings:
    """Settings of the stage "prune". `multiple`: widths are multiples of it. `oracle`, `frame`: as
    in `DistilSettings`. `prices`: what layers cost on the device, where `config.low_rank` asks.
    """

    config: PruneConfig
    distil: DistilConfig
    model: ModelSpec
    view: ViewsConfig
    multiple: int
    oracle: OracleSettings | None = None
    groups_sha256: HashedOnly[str] = ""
    frame: tuple[int, ...] = ()
    prices: LayerPrices | None = None


@dataclasses.dataclass(frozen=True)
class QatSettings:
    """Settings of the stage "qat".

    `rules`: the device profile's int8 rules (`edgekd.tflite.int8_rules.Int8Rules.from_dict`).
    `balance`: as `distil.balance` of a recipe. `groups`: the CSV that the balance "group" reads,
    else "". `frame`: as in `InputsSettings`.
    """

    config: QatConfig
    rules: dict[str, str]
    view: ViewsConfig
    balance: str
    groups: str = ""
    groups_sha256: HashedOnly[str] = ""
    frame: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class FormatsSettings:
    """Settings of the stage "formats". `rules`: as in `QatSettings`."""

    formats: tuple[NumberFormat, ...]
    rules: dict[str, str]


@dataclasses.dataclass(frozen=True)
class TeacherPrecision:
    """Settings of the stages "evaluate" and "saliency": the precision that the teacher runs in."""

    precision: str


@dataclasses.dataclass(frozen=True)
class CertifySettings:
    """Settings of the stage "certify"."""

    config: CertifyConfig


@dataclasses.dataclass(frozen=True)
class ConfidenceSettings:
    """Settings of the stage "confidence"."""

    config: ConfidenceConfig


@dataclasses.dataclass(frozen=True)
class AppInputsSettings:
    """Settings of the stage "app_inputs". `fit`: data.fit. `resizers`: views.resizers, none where
    a finished network is converted without training.
    """

    config: AppInputsConfig
    fit: str
    resizers: tuple[Resizer, ...]


@dataclasses.dataclass(frozen=True)
class HostBenchSettings:
    """Settings of the stage "bench". `host`: this machine, as the runner describes it
    (`edgebench.machine`).

    A latency holds only for the machine that it was measured on, and several machines can share a
    store.
    """

    config: BenchConfig
    host: HashedOnly[Json]


@dataclasses.dataclass(frozen=True)
class SensitivitySettings:
    """Settings of the sensitivity run, and how much it measures.

    It takes `images` of the validation split, or `fewer` for a student of more than `large`
    multiply-adds. It tries remedies on the `worst` operators by their divergence alone, and on
    those `giving` back the most when they alone stay in float.
    """

    config: QatConfig
    # 256 images show a divergence that matters. With half as many, MobileNetV2 at 224 px (300 M
    # multiply-adds) still takes only minutes on two cores.
    images: int = 256
    fewer: int = 128
    large: float = 100e6
    worst: int = 5
    giving: int = 3


StageSettings = (
    DataSettings
    | InputsSettings
    | TeacherSettings
    | GivenTeacherSettings
    | KnowledgeSettings
    | LogSettings
    | ClientSettings
    | UnlabelledSettings
    | PretrainSettings
    | DistilSettings
    | GivenSettings
    | AnsweredSettings
    | PruneSettings
    | QatSettings
    | FormatsSettings
    | TeacherPrecision
    | CertifySettings
    | ConfidenceSettings
    | AppInputsSettings
    | HostBenchSettings
)
