"""The recipe's table [teacher]."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from msgspec import Meta

from edgekd.settings.convert_settings import Layout, Mean, Order, Std, Trust
from edgekd.settings.setting_types import OPTIMISER, Batch, LearningRate, WeightDecay
from edgekd.settings.training_settings import FIRST_RATE, WEIGHTS

AS_IT_IS = "as it is"  # how a finished classifier teaches, beside the values of teacher.mode
# Views of an image without a label that a frozen teacher's head trains itself on. The fit takes
# longer with more of them.
SELF_TRAINED_VIEWS = 2


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
    """The network that the student learns from."""

    name: Annotated[
        str,
        Meta(
            min_length=1,
            description='Any network that timm has, or "none" to train on the labels alone. As it '
            "is (epochs = 0) also MODEL.onnx, MODEL.pt2, package.module:function, torchvision:NAME "
            "or hf-hub:REPO.",
        ),
    ] = "resnet18"
    weights: Annotated[str, Meta(description=WEIGHTS)] = ""
    mode: Annotated[
        Literal["finetune", "frozen"],
        Meta(description='"frozen" keeps the backbone and fits a linear head on its features.'),
    ] = "finetune"
    others: Annotated[
        tuple[str, ...],
        Meta(
            description="Further teachers, NAME or NAME@FILE. For each image the teachers that are "
            "right have the larger say."
        ),
    ] = ()
    terms: Annotated[
        str | dict[str, str],
        Meta(
            description="What models that learnt from a teacher may be used for, where nothing "
            'else says so: "any", "non-commercial", "no-training" or a licence such as '
            '"Apache-2.0", and after a colon where that stands. A text for all teachers, or a '
            'table {teacher = "...", teacher2 = "...", log = "..."}.'
        ),
    ] = ""
    px: Annotated[
        int,
        Meta(
            ge=0,
            le=4096,
            description="Input side in pixels. 0: data.input_px for random weights; for pretrained "
            "ones 1.5 times that, at most timm's size; timm's size for a finished classifier.",
        ),
    ] = 0
    epochs: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="Number of passes over the training images. 0: a finished classifier is "
            "used exactly as it is; its classes must be those of the data, in the same order.",
        ),
    ] = 8
    batch: Annotated[Batch, Meta(description="Images per step.")] = 32
    optimiser: Annotated[
        Literal["auto", "sgd", "adamw"],
        Meta(description=f'{OPTIMISER} "auto": AdamW for a pretrained transformer, else SGD.'),
    ] = "auto"
    lr: Annotated[
        LearningRate,
        Meta(description=f"{FIRST_RATE} 0.0001 for a pretrained transformer with AdamW."),
    ] = 0.0
    weight_decay: Annotated[WeightDecay, Meta(description="L2 penalty on the weights.")] = 5e-4
    # 0.75 as in BEiT (Bao et al. 2021, arXiv 2106.08254) and MAE (He et al. 2021).
    layer_decay: Annotated[
        float,
        Meta(
            ge=0.01,
            le=1,
            description="Fine-tuned transformer: the learning rate of each layer as a share of "
            "that of the layer behind it. 1: one rate for all layers.",
        ),
    ] = 0.75
    drop_path: Annotated[
        float,
        Meta(
            ge=0,
            le=0.95,
            description="Fine-tuned transformer: probability with which its last block is "
            "skipped in training (stochastic depth); 0 for the first block.",
        ),
    ] = 0.1
    head_first: Annotated[
        bool,
        Meta(
            description="Fine-tuned transformer: begin with the linear head that a frozen one "
            "would get."
        ),
    ] = True
    head_views: Annotated[
        int,
        Meta(
            ge=0,
            le=1024,
            description="How many of an image's views the head is fitted on. 0: for a frozen "
            "teacher all that the student sees (views.per_image), before fine-tuning 2.",
        ),
    ] = 0
    head_decay: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="L2 penalty on a fitted head, for features of unit variance. "
            "0: chosen by cross-validation.",
        ),
    ] = 0.0
    head_features: Annotated[
        Literal["auto", "default", "class", "mean", "class+mean"],
        Meta(
            description="What the fitted head of a transformer reads: the class token, "
            'the mean of the patch tokens, or both. "auto": chosen by cross-validation. "default": '
            "what the network was made for, as networks without a class token have it."
        ),
    ] = "auto"
    self_training: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="Frozen, with data.unlabelled: how often the fitted head answers about the "
            "images without labels and is fitted again on its own answers. 0: it is fitted on the "
            "labels alone.",
        ),
    ] = 6
    average_views: Annotated[
        int,
        Meta(
            ge=0,
            le=1024,
            description="Average the answer about a view with those about the image's next views, "
            "so many in all. They are answered anyway. 1: each view by itself. 0: all "
            "(views.per_image).",
        ),
    ] = 1
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Meta(
            description='Number format of inference. "auto": bfloat16 for transformers if the '
            "CPU has instructions for it."
        ),
    ] = "auto"

    # Of a finished network in another form than NAME@WEIGHTS.
    mean: Mean = ()
    std: Std = ()
    order: Order = "rgb"
    layout: Layout = "auto"
    trust: Trust = False

    @property
    def as_it_is(self) -> bool:
        """Whether the first teacher is a finished classifier that nothing may change."""
        return self.mode == "finetune" and self.epochs == 0
