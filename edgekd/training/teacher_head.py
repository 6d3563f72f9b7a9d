"""The linear head of a teacher whose backbone stays as it is: which features it reads, and its fit.

A transformer's head may read the class token, the mean of the patch tokens, or both. One pass gives
all three, so that trying them costs only the fits. A cross-validation chooses. Where there are
images without labels, the head then trains itself on them (`self_training`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.core.artifacts import Dataset
from edgekd.core.context import Context
from edgekd.core.errors import RecipeError
from edgekd.data import datasets
from edgekd.data.sources import UNLABELLED
from edgekd.networks import token_pooling
from edgekd.networks.compute import autocast
from edgekd.settings.recipe import TeacherConfig, ViewsConfig
from edgekd.settings.teacher_settings import SELF_TRAINED_VIEWS
from edgekd.training import linear_head, self_training, teacher_columns
from edgekd.training.answer_cache import AnswerCache, Shown
from edgekd.training.linear_head import Head, Validated
from edgekd.training.processes import team
from edgekd.training.self_training import SelfTraining
from edgekd.training.teacher_oracle import BLOCK, Backbone
from edgekd.training.teacher_steps import Judge, TeacherStep
from edgekd.training.view_features import Features
from edgekd.training.views import Renderer

# What a head reads, in words, by the choice in `token_pooling.CHOICES`.
READ = {
    "": "the pooled features",
    "class": "the class token",
    "mean": "the mean of the patch tokens",
    "class+mean": "the class token and the mean of the patch tokens",
}


@dataclasses.dataclass(frozen=True)
class TriedHead:
    """A head that was fitted. `what`: in words. `choice`: what it reads, as in READ.

    `validated`: its cross-validation, if there was one. `kept`: whether it is the teacher's.
    """

    what: str
    choice: str
    head: Head
    kept: bool
    validated: Validated | None


@dataclasses.dataclass(frozen=True)
class FittedHead:
    """What was fitted. `choice`: what the head reads, as in READ. `steps`: every head tried."""

    choice: str
    decay: float
    steps: list[TeacherStep]


@dataclasses.dataclass(frozen=True)
class HeadFit:
    """A network and the images that its head is fitted on.

    `views`: how many views of each training image; they are those that the student will see, so
    that the stage "knowledge" does not ask for them again. `dtype`: of the passes.
    """

    net: nn.Module
    render: Renderer
    dataset: Dataset
    view: ViewsConfig
    views: int
    context: Context
    dtype: torch.dtype

    def fit(self, config: TeacherConfig) -> FittedHead:
        """Fit the head and put it into the network.

        Raises RecipeError when the network's classifier is not one linear layer, or when it cannot
        read what `config.head_features` asks for.
        """
        head = self.net.get_classifier()  # type: ignore[operator]
        if not isinstance(head, nn.Linear):
            raise RecipeError(
                f"the classifier of {type(self.net).__name__} is not one linear layer",
                'use teacher.mode = "finetune"',
            )
        choices = self._choices(config.head_features)
        features = self._features(head, self._rows("train"), self.views, choices)
        tried = self._tried(config, features)
        best = _kept(tried)
        if config.self_training and len(rows := self._some_unlabelled()):
            views = min(SELF_TRAINED_VIEWS, self.views)
            more = self._features(head, rows, views, choices)[best.choice]
            tried = self._self_trained(config, tried, features[best.choice], more)
            best = _kept(tried)
        steps = team().once(lambda: self._judged(tried))
        token_pooling.apply(self.net, best.choice)
        _put(self.net.get_classifier(), best.head)  # type: ignore[operator]
        return FittedHead(best.choice, best.head.decay, steps)

    def _rows(self, split: str) -> Tensor:
        return torch.from_numpy(datasets.rows(self.dataset, split))

    @property
    def _known(self) -> Tensor:
        """The labels of the training images, as `datasets.training_labels` has them."""
        return torch.from_numpy(datasets.training_labels(self.dataset))[self._rows("train")]

    def _some_unlabelled(self) -> Tensor:
        """The images without labels that a head learns from, in random order."""
        rows = self._rows(UNLABELLED)
        draw = torch.Generator().manual_seed(self.context.seed)
        return rows[torch.randperm(len(rows), generator=draw)[: self_training.IMAGES]]

    def _tried(self, config: TeacherConfig, features: Mapping[str, Features]) -> list[TriedHead]:
        """A head for each choice of what it may read, fitted on the labels."""
        known, classes, seed = self._known, len(self.dataset.classes), self.context.seed
        compared: dict[str, Validated] = {}
        best = next(iter(features))
        if len(features) > 1:
            compared = linear_head.compare(features, known, classes, config.head_decay, seed)
            best = linear_head.better(compared)
        tried = []
        for choice, read in features.items():
            # Of the others it is good enough that the comparison chose the decay.
            decay = config.head_decay or (0.0 if choice == best else compared[choice].decay)
            head = linear_head.fit(read, known, classes, decay, seed)
            what = f"linear head on {READ[choice]}"
            tried.append(TriedHead(what, choice, head, choice == best, compared.get(choice)))
        return tried

    def _self_trained(
        self,
        config: TeacherConfig,
        tried: Sequence[TriedHead],
        labelled: Features,
        unlabelled: Features,
    ) -> list[TriedHead]:
        """The heads that were tried, and the best one after self-training.

        It is kept unless it clearly holds out worse. `labelled`, `unlabelled`: the features that
        the best one reads, of the training images and of those without labels.
        """
        rounds = config.self_training
        self.context.say(
            f"      teacher's head: {rounds} rounds of self-training, with {unlabelled.count:,} "
            "images without labels"
        )
        best, known, seed = _kept(tried), self._known, self.context.seed
        classes = len(self.dataset.classes)
        training = SelfTraining(labelled, known, unlabelled, self.dataset.labels, classes, rounds)
        before = training.held_out_before(best.head.decay, seed)
        after = training.held_out(best.head.decay, seed)
        kept = not after.worse_than(before)
        more = TriedHead(
            f"{best.what}, self-trained on images without labels ({unlabelled.count:,})",
            best.choice,
            training.fit(best.head),
            kept,
            after,
        )
        told = dataclasses.replace(best, kept=not kept, validated=before)
        return [*(told if each is best else each for each in tried), more]

    def _choices(self, wanted: str) -> list[str]:
        """What heads may read, the network's own choice first; [""] for its pooled features."""
        possible = token_pooling.possible(self.net)
        if wanted == "default" or (wanted == "auto" and not possible):
            return [""]
        if not possible:
            raise RecipeError(
                f"teacher.head_features is {wanted!r}, but the classifier of "
                f"{type(self.net).__name__} cannot read single tokens",
                'leave it at "auto"',
            )
        if wanted != "auto":
            return [wanted]
        own = token_pooling.own(self.net)
        return [own, *(choice for choice in token_pooling.CHOICES if choice != own)]

    def _features(
        self, head: nn.Module, rows: Tensor, views: int, choices: list[str]
    ) -> dict[str, Features]:
        """Features of views of some images, by what a head reads of them."""
        # A mixed image has no single label to regress on.
        unmixed = dataclasses.replace(self.view, mixup=0.0)
        backbone = Backbone(self.net.eval(), self.render, self.dtype, tokens=choices != [""])
        shown = Shown(self.dataset, rows, unmixed, self.context.seed, views)
        cache = AnswerCache(shown, self.context)
        answers = cache.answers(teacher_columns.features(backbone, head, self.dataset))

        def features(choice: str) -> Features:
            return Features(
                answers.views,
                len(answers),
                lambda view, order: _read(answers.take(view, order), choice).float(),
            )

        return {choice: features(choice) for choice in choices}

    @torch.inference_mode()
    def _judged(self, tried: Sequence[TriedHead]) -> list[TeacherStep]:
        """How well each head answers the plain validation images."""
        judge = Judge.of(self.dataset)
        said: list[list[Tensor]] = [[] for _ in tried]
        for rows in judge.rows.split(BLOCK):
            known = self._plain(rows, tokens=any(each.choice for each in tried))
            for told, each in zip(said, tried, strict=True):
                read = _read(known, each.choice)
                told.append(F.linear(read, each.head.weight, each.head.bias))
        return [
            judge.step(
                each.what,
                torch.cat(told),
                kept=each.kept,
                held_out=None if each.validated is None else each.validated.loss,
            )
            for told, each in zip(said, tried, strict=True)
        ]

    def _plain(self, rows: Tensor, tokens: bool) -> dict[str, Tensor]:
        """Features of plain images, float32 on the CPU: of their `tokens`, or "pooled"."""
        net, images = self.net, self.render.plain(rows)
        with autocast(self.dtype, images.device):
            last = net.forward_features(images)  # type: ignore[operator]
            pooled = net.forward_head(last, pre_logits=True)  # type: ignore[operator]
        prefix = int(getattr(net, "num_prefix_tokens", 0))
        known = token_pooling.parts(last, prefix) if tokens else {"pooled": pooled}
        return {name: value.float().cpu() for name, value in known.items()}


def _kept(tried: Sequence[TriedHead]) -> TriedHead:
    (found,) = (each for each in tried if each.kept)
    return found


def _read(known: Mapping[str, Tensor], choice: str) -> Tensor:
    """The features that a head reads, by its choice."""
    return token_pooling.read(known, choice) if choice else known["pooled"]


def _put(layer: nn.Linear, head: Head) -> None:
    with torch.no_grad():
        layer.weight.copy_(head.weight)
        layer.bias.copy_(head.bias)
