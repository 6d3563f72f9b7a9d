"""The settings of the stages that teach a student features, as `stage_settings` has the others."""

from __future__ import annotations

import dataclasses
from typing import Literal

from edgekd.pipeline.hashed_only import HashedOnly
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import DataConfig, ViewsConfig
from edgekd.settings.setting_types import Optimiser
from edgekd.training.oracle_settings import OracleSettings


@dataclasses.dataclass(frozen=True)
class UnlabelledSettings:
    """Settings of the stage "data" when no image has a label.

    `fingerprint`: the source's contents.
    """

    config: DataConfig
    fingerprint: HashedOnly[str]


@dataclasses.dataclass(frozen=True)
class BackboneSettings:
    """A teacher whose features no label decides: a network of timm with the weights that it came
    with.

    `weights`, `head_features`: as in the recipe's table [teacher]. `px`: the side of its input.
    """

    model: ModelSpec
    weights: str
    head_features: str
    px: int
    weights_content: HashedOnly[str] = ""


@dataclasses.dataclass(frozen=True)
class PretrainSettings:
    """Settings of the stage "pretrain". Nothing here says how the student is trained later.

    `epochs`, `lr` and `grid` are distil.pretrain_epochs and so on. The others, up to `weights`, are
    those of [distil]. `oracle`: how the teacher is asked. `backbone`: the teacher; None where it is
    the network of the stage "teacher". `px`, `frame`: as in `DistilSettings`.
    """

    epochs: int
    lr: float
    grid: float
    batch: int
    optimiser: Optimiser
    weight_decay: float
    warmup: float
    schedule: Literal["cosine", "onecycle"]
    ema: float
    seed: int
    weights: str
    model: ModelSpec
    view: ViewsConfig
    px: int
    channels: str
    oracle: OracleSettings
    backbone: BackboneSettings | None
    weights_content: HashedOnly[str] = ""
    frame: tuple[int, ...] = ()
