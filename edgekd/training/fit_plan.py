"""How long and how fast a network is trained: the plan, and where training stands in it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from edgekd.settings.model_specs import RANDOM_WEIGHTS

# Learning rates that a recipe's lr = 0 stands for, by where the weights come from. They suit
# Nesterov momentum and batches of 32.
RATES = {"random": 0.05, "pretrained": 0.01}
# The same for a transformer that AdamW fine-tunes, whose first layers learn more slowly.
TRANSFORMER_RATE = 1e-4

Schedule = Literal["cosine", "onecycle", "constant"]
Optimiser = Literal["sgd", "adamw"]


@dataclasses.dataclass(frozen=True)
class FitPlan:
    """How long and how fast to train.

    `warmup`: share of the steps in which the learning rate rises. `schedule`: "cosine" (warm-up,
    then a cosine to 0), "onecycle" (a warm-up over at least 30 % of the steps) or "constant".
    `ema`: decay per step of the averaged weights, which is reduced in a short training; 0 means no
    average. `optimiser`: "sgd" (with Nesterov momentum) or "adamw". `factors`: of the learning
    rate, by the name of the parameter; 1 for those that are not named.
    """

    epochs: int
    lr: float
    weight_decay: float
    warmup: float = 0.1
    schedule: Schedule = "cosine"
    ema: float = 0.0
    optimiser: Optimiser = "sgd"
    factors: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Step:
    """Where training stands: `index` of `total` steps, counted from 0 over all epochs.

    `clock`: float32 scalar on a GPU that holds `share`. A step that is captured there reads it in
    place of `share`, because a number that is read on the CPU would stay as it was.
    """

    index: int
    total: int
    epoch: int
    clock: Tensor | None = None

    @property
    def share(self) -> float:
        """Share of the steps that are done, 0 to 1."""
        return self.index / max(1, self.total)


def first_rate(asked: float, origin: str) -> float:
    """The learning rate: `asked`, or if that is 0 the one for weights from `origin`.

    `origin`: as `networks.timm_networks.pretrained` says it; "random" for random weights.
    """
    return asked or RATES["random" if origin == RANDOM_WEIGHTS else "pretrained"]


def rate(plan: FitPlan, share: float) -> float:
    """The factor of the learning rate after this share of the steps."""
    if plan.schedule == "constant":
        return 1.0
    rising = max(plan.warmup, 0.3) if plan.schedule == "onecycle" else plan.warmup
    if share < rising:
        return (share + 1e-3) / (rising + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (share - rising) / (1 - rising)))
