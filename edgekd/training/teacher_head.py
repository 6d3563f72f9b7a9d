"""The linear head of a teacher whose backbone stays as it is: which features it reads, and its fit.

A transformer's head may read the class token, the mean of the patch tokens, or both. One pass gives
all three, so that trying them costs only the fits. A cross-validation chooses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.core.artifacts import Dataset
from edgekd.core.context import Context
from edgekd.core.errors import RecipeError
from edgekd.data import datasets
from edgekd.networks import token_pooling
from edgekd.networks.compute import autocast
from edgekd.settings.recipe import TeacherConfig, ViewsConfig
from edgekd.training import linear_head, teacher_columns
from edgekd.training.answer_cache import AnswerCache, Shown
from edgekd.training.linear_head import Features, Head, Validated
from edgekd.training.processes import team
from edgekd.training.teacher_oracle import BLOCK, Backbone
from edgekd.training.teacher_steps import Judge, TeacherStep
from edgekd.training.views import Renderer

# What a head reads, in words, by the choice in `token_pooling.CHOICES`.
READ = {
    "": "the pooled features",
    "class": "the class token",
    "mean": "the mean of the patch tokens",
    "class+mean": "the class token and the mean of the patch tokens",
}


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
        train = torch.from_numpy(datasets.rows(self.dataset, "train"))
        known = torch.from_numpy(datasets.training_labels(self.dataset))[train]
        features = self._features(head, train, choices)
        classes, seed = len(self.dataset.classes), self.context.seed
        tried: dict[str, Validated] = {}
        best = choices[0]
        if len(choices) > 1:
            tried = linear_head.compare(features, known, classes, config.head_decay, seed)
            best = linear_head.better(tried)
        heads = {}
        for choice in choices:
            # Of the others it is good enough that the comparison chose the decay.
            decay = config.head_decay or (0.0 if choice == best else tried[choice].decay)
            heads[choice] = linear_head.fit(features[choice], known, classes, decay, seed)
        steps = team().once(lambda: self._judged(heads, tried, best))
        token_pooling.apply(self.net, best)
        _put(self.net.get_classifier(), heads[best])  # type: ignore[operator]
        return FittedHead(best, heads[best].decay, steps)

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

    def _features(self, head: nn.Module, train: Tensor, choices: list[str]) -> dict[str, Features]:
        """Features of views of the training images, by what a head reads of them."""
        # A mixed image has no single label to regress on.
        unmixed = dataclasses.replace(self.view, mixup=0.0)
        backbone = Backbone(self.net.eval(), self.render, self.dtype, tokens=choices != [""])
        shown = Shown(self.dataset, train, unmixed, self.context.seed, self.views)
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
    def _judged(
        self, heads: dict[str, Head], tried: dict[str, Validated], best: str
    ) -> list[TeacherStep]:
        """How well each head answers the plain validation images."""
        judge = Judge.of(self.dataset)
        said: dict[str, list[Tensor]] = {choice: [] for choice in heads}
        for rows in judge.rows.split(BLOCK):
            known = self._plain(rows, tokens="" not in heads)
            for choice, head in heads.items():
                said[choice].append(F.linear(_read(known, choice), head.weight, head.bias))
        return [
            judge.step(
                f"linear head on {READ[choice]}",
                torch.cat(said[choice]),
                kept=choice == best,
                held_out=tried[choice].loss if choice in tried else None,
            )
            for choice in heads
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


def _read(known: Mapping[str, Tensor], choice: str) -> Tensor:
    """The features that a head reads, by its choice."""
    return token_pooling.read(known, choice) if choice else known["pooled"]


def _put(layer: nn.Linear, head: Head) -> None:
    with torch.no_grad():
        layer.weight.copy_(head.weight)
        layer.bias.copy_(head.bias)
