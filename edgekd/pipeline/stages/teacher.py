"""data -> teacher: a network that is fine-tuned, trained from random weights, frozen with a linear
head on its features, or used as it is.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Dataset, Json, Network
from edgekd.core.context import Context
from edgekd.data import datasets, on_demand
from edgekd.evaluation import metrics
from edgekd.networks import (
    builders,
    compute,
    layer_rates,
    network_size,
    timm_networks,
    token_pooling,
    weight_files,
)
from edgekd.networks.inference import logits_of, precision
from edgekd.pipeline.stage_settings import TeacherSettings, TransformerTuning
from edgekd.settings import model_specs
from edgekd.settings.model_specs import RANDOM_WEIGHTS
from edgekd.settings.teacher_settings import AS_IT_IS
from edgekd.training import threads, views
from edgekd.training.ahead import ahead
from edgekd.training.fit import balanced, fit, shuffled
from edgekd.training.fit_plan import TRANSFORMER_RATE, FitPlan, Optimiser, Step, first_rate
from edgekd.training.losses import label_losses
from edgekd.training.processes import team
from edgekd.training.teacher_figures import TeacherFigures
from edgekd.training.teacher_head import FittedHead, HeadFit
from edgekd.training.teacher_steps import Judge, TeacherStep

EMA = 0.99  # decay of the averaged weights that are kept: an average over about the last 100 steps
LABEL_SMOOTHING = 0.1  # of a teacher's labels, the value of Szegedy et al. 2016 (arXiv 1512.00567)
# Views of each image that a head is fitted on before fine-tuning. Their passes need no gradients,
# and cost about two thirds of one epoch.
VIEWS_BEFORE = 2

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
    # A network in eval mode skips no block, so that the artifact does not need this option.
    net, origin = first(model, config.weights, classes, {**options, **_skipping(settings)})
    mean, std = builders.normalisation(model, net)
    on = compute.of(context)
    pixels = on_demand.pixels(dataset, context.source)
    render = views.Renderer(pixels, px, mean, std, on.device)
    training = _Training(on.place(net), render, dataset, settings, context, on)
    made = training.made(origin)
    if made.head_features:
        options[token_pooling.KEY] = made.head_features
    return Network(
        arch=model.arch,
        options={**options, "num_classes": classes},
        px=px,
        mean=mean,
        std=std,
        history=made.history,
        facts={
            "name": model.name,
            "weights": origin,
            "mode": config.mode,
            "licence": model.licence,
            "metrics": team().once(training.figures.both),
            **made.how,
            **({"steps": [step.to_json() for step in made.steps]} if made.steps else {}),
            **network_size.size(net.cpu(), px),
        },
        state=weight_files.to_bytes(net.state_dict()),
    )


def _skipping(settings: TeacherSettings) -> dict[str, Json]:
    """The builder's option for blocks that are skipped in training, of a network that has it."""
    tuning = settings.tuning
    if tuning is None or not tuning.drop_path or not timm_networks.drops_paths(settings.model.arch):
        return {}
    return {timm_networks.DROP_PATH: tuning.drop_path}


@dataclasses.dataclass(frozen=True)
class _Made:
    """How a network became a teacher.

    `how`: facts for the report. `history`: a row for each epoch. `head_features`: what a fitted
    head reads (`token_pooling.CHOICES`), "" for the network's own pooled features.
    """

    how: dict[str, Json]
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    steps: list[TeacherStep] = dataclasses.field(default_factory=list)
    head_features: str = ""


class _Training:
    """The network with all that its training needs. Changes the network in place."""

    def __init__(
        self,
        net: nn.Module,
        render: views.Renderer,
        dataset: Dataset,
        settings: TeacherSettings,
        context: Context,
        on: compute.Compute,
    ) -> None:
        self.on = on
        self.net, self.render, self.dataset = net, render, dataset
        self.config, self.view, self.context = settings.config, settings.view, context
        self.name, self.tuning = settings.model.name, settings.tuning
        self.classes = len(dataset.classes)
        self.train, self.images = self._rows("train"), datasets.identities(dataset)
        self.labels = torch.from_numpy(datasets.training_labels(dataset))

    def made(self, origin: str) -> _Made:
        """Make the network a teacher, as the settings say. `origin`: of its first weights."""
        if self.config.as_it_is:
            for told in self.figures.told(self.name, origin):
                self.context.say(told)
            return _Made({"mode": AS_IT_IS})
        if self.config.mode == "frozen":
            head = self.fit_head(self.view.per_image)
            return _Made({"head_decay": head.decay}, [], head.steps, head.choice)
        if origin == RANDOM_WEIGHTS:
            self.context.say(
                f"{self.name} has random weights and learns from the training images alone; "
                f"trained weights usually teach more: --teacher {self.name}@FILE.safetensors"
            )
        if self.tuning is not None:
            return self._tuned_transformer(self.tuning, origin)
        rate = first_rate(self.config.lr, origin)
        return _Made({"lr": rate}, self.finetune(rate))

    def _tuned_transformer(self, tuning: TransformerTuning, origin: str) -> _Made:
        """Fine-tune a pretrained transformer, if it may be from a head that fits already.

        From a random head, the first steps would change features that are good. Linear probing
        before fine-tuning avoids that (Kumar et al. 2022, arXiv 2202.10054).
        """
        head = None
        if tuning.head_first and isinstance(self.net.get_classifier(), nn.Linear):  # type: ignore[operator]
            head = self.fit_head(VIEWS_BEFORE)
        rate = first_rate(self.config.lr, origin)
        if self.config.optimiser == "adamw":
            rate = self.config.lr or TRANSFORMER_RATE
        factors = layer_rates.factors(self.net, tuning.layer_decay)
        history = self.finetune(rate, factors)
        judge = Judge.of(self.dataset)
        epochs = "epoch" if self.config.epochs == 1 else "epochs"
        tuned = judge.step(
            f"fine-tuned for {self.config.epochs} {epochs}",
            torch.from_numpy(team().once(lambda: self.figures.answers(judge.rows))),
        )
        if head is None:
            return _Made({"lr": rate}, history, [tuned])
        self._compare(head, tuned)
        how: dict[str, Json] = {"lr": rate, "head_decay": head.decay}
        return _Made(how, history, [*head.steps, tuned], head.choice)

    def _compare(self, head: FittedHead, tuned: TeacherStep) -> None:
        """Say where fine-tuning lost what the frozen backbone had."""
        (before,) = (step for step in head.steps if step.kept)
        if tuned.cross_entropy > before.cross_entropy and tuned.top1 < before.top1:
            self.context.say(
                f"{self.name}: on the validation images, fine-tuning made it worse than a linear "
                "head on the frozen backbone; --teacher-frozen keeps that head, and a lower "
                f"learning rate or fewer epochs may help: --set teacher.epochs="
                f"{max(1, self.config.epochs // 2)}"
            )

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

    def finetune(
        self, lr: float, factors: Mapping[str, float] | None = None
    ) -> list[dict[str, float]]:
        """Train all weights on new views every epoch, with cross-entropy on mixed labels. Returns a
        row for each epoch. `factors`: of the learning rate, by the name of a parameter.

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

        optimiser: Optimiser = "adamw" if config.optimiser == "adamw" else "sgd"
        plan = FitPlan(
            config.epochs,
            lr,
            config.weight_decay,
            ema=EMA,
            optimiser=optimiser,
            factors=factors or {},
        )
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

    def fit_head(self, views: int) -> FittedHead:
        """Fit a linear head on the features of views of each image, `teacher.head_views` or else
        `views`, with the backbone as it is.
        """
        count = self.config.head_views or views
        if self.config.mode == "frozen":  # more than the student sees would be asked for this alone
            count = min(count, views)
        fitting = HeadFit(
            self.net, self.render, self.dataset, self.view, count, self.context, self.dtype
        )
        return fitting.fit(self.config)
