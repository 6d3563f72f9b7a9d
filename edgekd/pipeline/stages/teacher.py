"""data -> teacher: a network that is fine-tuned, trained from random weights, frozen with a linear
head on its features, or used as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Dataset, Json, Network
from edgekd.core.context import Context
from edgekd.data import datasets, on_demand
from edgekd.evaluation import metrics
from edgekd.networks import (
    builders,
    compute,
    network_size,
    timm_networks,
    token_pooling,
    weight_files,
)
from edgekd.networks.inference import logits_of, precision
from edgekd.pipeline.stage_settings import TeacherSettings
from edgekd.settings import model_specs
from edgekd.settings.model_specs import RANDOM_WEIGHTS
from edgekd.settings.recipe import TeacherConfig, ViewsConfig
from edgekd.settings.training_settings import AS_IT_IS
from edgekd.training import threads, views
from edgekd.training.ahead import ahead
from edgekd.training.fit import balanced, fit, shuffled
from edgekd.training.fit_plan import FitPlan, Step, first_rate
from edgekd.training.losses import label_losses
from edgekd.training.processes import team
from edgekd.training.teacher_figures import TeacherFigures
from edgekd.training.teacher_head import FittedHead, HeadFit

EMA = 0.99  # decay of the averaged weights that are kept: an average over about the last 100 steps
LABEL_SMOOTHING = 0.1  # of a teacher's labels, the value of Szegedy et al. 2016 (arXiv 1512.00567)

Batch = tuple[Tensor, Tensor]  # images float32 [b, c, px, px], targets float32 [b, k]


@compute.in_full_float32
def run(dataset: Dataset, *, settings: TeacherSettings, context: Context) -> Network:
    """Train the teacher on the training split and evaluate it on validation and test.

    With `teacher.epochs = 0` nothing is trained. Raises WeightsError for weights that do not fit,
    and RecipeError for a frozen network without weights.
    """
    config, model, px = settings.config, settings.model, settings.px
    model_specs.check_frozen(config.mode, config.weights, model)
    classes = len(dataset.classes)
    size = timm_networks.size_option(model.arch, px)
    options: dict[str, Json] = {**model.options, **size}
    torch.manual_seed(context.seed)
    first = timm_networks.finished if config.as_it_is else timm_networks.pretrained
    net, origin = first(model, config.weights, classes, options)
    mean, std = builders.normalisation(model, net)
    on = compute.of(context)
    pixels = on_demand.pixels(dataset, context.source)
    render = views.Renderer(pixels, px, mean, std, on.device)
    training = _Training(on.place(net), render, dataset, config, settings.view, context, on)
    history: list[dict[str, float]] = []
    how: dict[str, Json]
    if config.as_it_is:
        how = {"mode": AS_IT_IS}
        for told in training.figures.told(model.name, origin):
            context.say(told)
    elif config.mode == "frozen":
        head = training.fit_head()
        how = {"head_decay": head.decay, "steps": [step.to_json() for step in head.steps]}
        for step in head.steps:
            context.say(f"      {model.name}, {step.told()}")
        if head.choice:
            options[token_pooling.KEY] = head.choice
    else:
        if origin == RANDOM_WEIGHTS:
            context.say(
                f"{model.name} has random weights and learns from the training images alone; "
                f"trained weights usually teach more: --teacher {model.name}@FILE.safetensors"
            )
        rate = first_rate(config.lr, origin)
        history = training.finetune(rate)
        how = {"lr": rate}
    return Network(
        arch=model.arch,
        options={**options, "num_classes": classes},
        px=px,
        mean=mean,
        std=std,
        history=history,
        facts={
            "name": model.name,
            "weights": origin,
            "mode": config.mode,
            "licence": model.licence,
            "metrics": team().once(training.figures.both),
            **how,
            **network_size.size(net.cpu(), px),
        },
        state=weight_files.to_bytes(net.state_dict()),
    )


class _Training:
    """The network with all that its training needs. Changes the network in place."""

    def __init__(
        self,
        net: nn.Module,
        render: views.Renderer,
        dataset: Dataset,
        config: TeacherConfig,
        view: ViewsConfig,
        context: Context,
        on: compute.Compute,
    ) -> None:
        self.on = on
        self.net, self.render, self.dataset = net, render, dataset
        self.config, self.view, self.context = config, view, context
        self.classes = len(dataset.classes)
        self.train, self.images = self._rows("train"), datasets.identities(dataset)
        self.labels = torch.from_numpy(datasets.training_labels(dataset))

    @functools.cached_property
    def dtype(self) -> torch.dtype:
        """The dtype that the teacher answers in."""
        return precision(self.config.precision, self.net, self.on)

    def _rows(self, split: str) -> Tensor:
        return torch.from_numpy(datasets.rows(self.dataset, split))

    @property
    def figures(self) -> TeacherFigures:
        """How well it answers."""
        return TeacherFigures(self.net, self.render, self.dataset, self.config.batch, self.dtype)

    def finetune(self, lr: float) -> list[dict[str, float]]:
        """Train all weights on new views every epoch, with cross-entropy on mixed labels. Returns a
        row for each epoch.

        Images of all classes are drawn equally often. Where an image may have several labels, the
        loss weighs each label instead.
        """
        config, several = self.config, self.dataset.labels == "many"
        known = self.labels[self.train]
        parts = label_losses.label_weights(known).to(self.on.device) if several else None
        of_labels = label_losses.fit(self.dataset.labels)
        class_weights = None if several else balanced(known, self.classes)
        val = self._rows("val")

        def loss(batch: Batch, _step: Step) -> Tensor:
            with compute.autocast(self.on.training, batch[0].device):
                logits = self.net(batch[0])
            return of_labels(logits.float(), batch[1], parts)

        def evaluate(kept: nn.Module) -> dict[str, float]:
            answers = logits_of(kept, (self.render.plain(part) for part in val.split(config.batch)))
            return metrics.quick(answers, self.labels[val].long().numpy())

        plan = FitPlan(config.epochs, lr, config.weight_decay, ema=EMA, optimiser=config.optimiser)
        return fit(
            self.net,
            self.net,
            lambda epoch: self._batches(epoch, class_weights),
            loss,
            plan,
            what="teacher",
            steps=len(self.train) // min(config.batch, len(self.train)),
            checkpoint=self.context.checkpoint,
            evaluate=evaluate,
            progress=self.context.progress,
            compute=self.on,
            say=self.context.say,
        )

    def _batches(self, epoch: int, class_weights: Tensor | None) -> Iterator[Batch]:
        """The batches of an epoch: views of training images with mixed, smoothed labels."""
        gathered = self._gathered(epoch, class_weights)
        if self.on.is_host:
            yield from ahead(self._drawn(gathered), threads.preparing() > 0)
        else:
            yield from self._drawn(ahead(gathered))

    def _drawn(self, gathered: Iterable[tuple[views.Sight, Tensor]]) -> Iterator[Batch]:
        """The batches with their images."""
        for sight, targets in gathered:
            yield self.render.draw(sight), compute.moved(targets, self.on.device)

    def _gathered(
        self, epoch: int, class_weights: Tensor | None
    ) -> Iterator[tuple[views.Sight, Tensor]]:
        """What each view of an epoch is rendered from, and its labels."""
        seed = self.context.seed
        drawn = views.draw(self.view, seed, epoch, self.images, among=self.train)
        for order in shuffled(len(self.train), self.config.batch, seed, epoch, class_weights):
            rows = self.train[order]
            own, other = (
                label_losses.soften(self.labels[r], self.classes, LABEL_SMOOTHING)
                for r in (rows, drawn.partner[rows])
            )
            targets = label_losses.mixed(own, other, drawn.share[rows])
            yield self.render.gather(rows, drawn), compute.pinned(targets, self.on.device)

    def fit_head(self) -> FittedHead:
        """Fit a linear head on the frozen backbone's features of the views that training shows."""
        count = min(self.config.head_views or self.view.per_image, self.view.per_image)
        fitting = HeadFit(
            self.net, self.render, self.dataset, self.view, count, self.context, self.dtype
        )
        return fitting.fit(self.config)
