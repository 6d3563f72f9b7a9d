"""The recipe's tables about making the student smaller: [edits], [prune] and [qat]."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from msgspec import Meta

from edgekd.settings.setting_types import (
    OPTIMISER,
    Batch,
    Epochs,
    LearningRate,
    Optimiser,
    Share,
    Temperature,
    WeightDecay,
)
from edgekd.settings.times import TIME, milliseconds

_EDIT = 'Empty: what the device profile says. "keep": no change.'


@dataclasses.dataclass(frozen=True)
class EditsConfig:
    """What is changed in the student before training. `edgekd check --fix` fills this in."""

    hard_swish: Annotated[
        Literal["", "keep", "relu6"],
        Meta(description=f"What replaces hard-swish activations. {_EDIT}"),
    ] = ""
    squeeze_excite: Annotated[
        Literal["", "keep", "remove", "hard_gate"],
        Meta(description=f"What becomes of squeeze-and-excite blocks. {_EDIT}"),
    ] = ""
    gelu: Annotated[
        Literal["", "keep", "relu6"],
        Meta(description=f"What replaces GELU activations. {_EDIT}"),
    ] = ""
    pooling: Annotated[
        Literal["", "mean", "average_pool"],
        Meta(
            description="The operator of the global pooling. Empty: what the device profile says."
        ),
    ] = ""


@dataclasses.dataclass(frozen=True)
class PruneConfig:
    """Structured pruning between distil and qat, with distil's losses: channels are cut, then wide
    pointwise layers become low-rank pairs.

    Off unless `ratio`, `target_macs` or `target_latency` says how much is cut, or `low_rank` is
    more than 0.
    """

    preset: Annotated[
        Literal["none", "distil-prune-quantise"],
        Meta(
            description="Fills in the settings of pruning and QAT that are not given "
            "(docs/how_to/choose_a_preset.md)."
        ),
    ] = "none"
    # 0.75 is pruning_plan.MOST: a quarter of every group of channels stays.
    ratio: Annotated[
        float, Meta(ge=0, le=0.75, description="Share of its channels that each group loses.")
    ] = 0.0
    target_macs: Annotated[
        float,
        Meta(
            ge=0,
            le=1e15,
            description="Multiply-accumulates per image after pruning. Up to 1: a share of the "
            "unpruned student's.",
        ),
    ] = 0.0
    target_latency: Annotated[
        str,
        Meta(
            pattern=TIME,
            examples=["12ms", "0.2s"],
            description="Latency of the pruned int8 student on the device, as it is predicted; the "
            "smallest cut that keeps it is made (docs/how_to/prune_to_a_latency.md). Empty: no "
            "target.",
        ),
    ] = ""
    # By multiply-adds and not by accuracy, so that the network is known before it is trained. Above
    # 0.9 the second operator costs more than is saved.
    low_rank: Annotated[
        float,
        Meta(
            ge=0,
            le=0.9,
            description="Share of its multiply-accumulates that a wide pointwise layer keeps as "
            "two narrower ones, where the device's latency model predicts a gain. 0: none is "
            "divided.",
        ),
    ] = 0.0
    importance: Annotated[
        Literal["magnitude", "bn_scale", "taylor"],
        Meta(description="By which measure the least important channels are found."),
    ] = "magnitude"
    scope: Annotated[
        Literal["local", "isomorphic"],
        Meta(description="Whether channels compete within a group, or among groups of one shape."),
    ] = "local"
    # A few small cuts lose less accuracy than a large one.
    steps: Annotated[
        int, Meta(ge=1, le=100, description="Number of cuts, each followed by fine-tuning.")
    ] = 3
    epochs: Annotated[
        Epochs,
        Meta(description="Epochs of fine-tuning after each cut, and after the low-rank pairs."),
    ] = 5
    # Below the rate of float training, which would undo what the cut has kept. No other value was
    # compared.
    lr: Annotated[LearningRate, Meta(description="Learning rate of the fine-tuning.")] = 0.02
    multiple: Annotated[
        int,
        Meta(
            ge=0,
            le=1024,
            description="Channel counts and ranks are rounded to a multiple of this. 0: the "
            "profile's channel_multiple.",
        ),
    ] = 0
    batches: Annotated[
        int,
        Meta(
            ge=1,
            le=65_536,
            description='For importance = "taylor": batches over which gradients are summed. For '
            "low_rank: batches whose outputs of each layer are measured.",
        ),
    ] = 8

    @property
    def on(self) -> bool:
        """Whether the student is pruned."""
        return bool(self.trainings)

    @property
    def cuts(self) -> int:
        """How many times channels are cut."""
        return self.steps if self.ratio or self.target_macs or self.target_latency else 0

    @property
    def trainings(self) -> int:
        """How many times the student is fine-tuned: after each cut, and after low-rank pairs."""
        return self.cuts + bool(self.low_rank)

    @property
    def target_ms(self) -> float:
        """`target_latency` in milliseconds; 0 where there is none."""
        return milliseconds(self.target_latency)


@dataclasses.dataclass(frozen=True)
class QatConfig:
    """Quantization-aware training: training with TFLite's int8 arithmetic in the forward pass."""

    epochs: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="Number of passes over the training images. 0: post-training quantization "
            "from the calibration images.",
        ),
    ] = 3
    batch: Annotated[Batch, Meta(description="Images per step.")] = 32
    optimiser: Annotated[Optimiser, Meta(description=OPTIMISER)] = "sgd"
    # A twenty-fifth of float training's rate: the ranges must be able to follow the weights.
    lr: Annotated[LearningRate, Meta(description="Learning rate.")] = 2e-3
    weight_decay: Annotated[WeightDecay, Meta(description="L2 penalty on the weights.")] = 0.0
    alpha: Annotated[
        Share,
        Meta(description="Weight of the float student's soft targets; the labels get 1 - alpha."),
    ] = 1.0
    temperature: Annotated[
        Temperature, Meta(description="Softmax temperature of the float student's soft targets.")
    ] = 2.0
    observe: Annotated[
        Share, Meta(description="Share of the steps after which activation ranges are frozen.")
    ] = 0.5
    # The default is older, and existing recipes keep their bytes. `edgekd convert` asks for
    # "quick": docs/measured/post_training.md compares the two.
    rounding: Annotated[
        Literal["gptq", "quick"],
        Meta(
            description='Without epochs: "gptq" rounds each layer for the least error of its '
            'output; "quick" does so for layers with few weights alone, in a fraction of the time.'
        ),
    ] = "gptq"
    pin: Annotated[
        str,
        Meta(
            description='Ranges fixed at percentiles of the calibration images: "EDGE=99.9, '
            '*=99.99". `edgekd report --why` suggests them.'
        ),
    ] = ""
