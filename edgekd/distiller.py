"""Distiller: a student, the adapters its losses need and the recipe's loss. Lesson: what every student of a build is taught."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd import adapters, data, losses, metrics, networks, views
from edgekd.artifacts import Dataset, Knowledge
from edgekd.context import Checkpoint, Progress
from edgekd.errors import RecipeError
from edgekd.inference import logits_of
from edgekd.recipe import DistilConfig, ViewsConfig
from edgekd.targets import Batch, Feed, arrays
from edgekd.training import FitPlan, Step, balanced, fit


class Distiller(nn.Module):
    """A student with the adapters that its losses need. `loss` is the weighted sum; `student` alone is kept."""

    def __init__(self, student: nn.Module, taps: list[str], config: DistilConfig, classes: int, px: int, channels: int,
                 knowledge: dict[str, Tensor], class_weights: Tensor | None, seed: int) -> None:
        super().__init__()
        self.student = student
        self.config = config
        self.class_weights = class_weights
        self.tap_names = taps
        self.taught = "logits" in knowledge
        shapes = _shapes(student, taps, px, channels)
        if self.taught and config.pooled:
            self.project = adapters.Orthogonal(shapes["pooled"][1], knowledge["pooled"].shape[-1],
                                               views.generator("adapter", seed))
        if self.taught and config.grid:
            self.grid = adapters.Grid(shapes[taps[-1]][1], knowledge["grid"].shape[2])
        if self.taught and config.exits:
            self.exits = nn.ModuleDict({tap.replace(".", "_"): adapters.Exit(shapes[tap][1], classes) for tap in taps})
        self.to(memory_format=torch.channels_last)

    def loss(self, batch: Batch, step: Step) -> Tensor:
        """The recipe's loss on one batch; feature losses grow linearly over the first `ramp` of the steps."""
        c = self.config
        with networks.watch(self.student, self.tap_names if self.taught and (c.grid or c.exits) else []) as seen:
            pooled = self.student.forward_head(self.student.forward_features(batch.images), pre_logits=True)  # type: ignore[operator]
        logits = self.student.get_classifier()(F.dropout(pooled, c.drop, self.training))  # type: ignore[operator]
        value = losses.cross_entropy(logits, batch.targets, self.class_weights)
        if not self.taught:
            return value
        assert batch.logits is not None
        value = (1 - c.alpha) * value + c.alpha * losses.kd(logits, batch.logits, c.temperature)
        ramp = min(1.0, step.share / c.ramp) if c.ramp else 1.0
        if c.pooled and batch.pooled is not None:
            value = value + ramp * c.pooled * losses.pooled(self.project(pooled), batch.pooled)
        if c.grid and batch.grid is not None:
            own = self.grid(seen[self.tap_names[-1]])
            value = value + ramp * c.grid * losses.grid(own, adapters.resize_map(batch.grid, own.shape[-1]))
        if c.exits:
            each = [losses.ofa(self.exits[tap.replace(".", "_")](seen[tap]), batch.logits, batch.targets)
                    for tap in self.tap_names]
            value = value + ramp * c.exits * torch.stack(each).mean()
        return value


def _shapes(student: nn.Module, taps: list[str], px: int, channels: int) -> dict[str, torch.Size]:
    with torch.inference_mode(), networks.watch(student, taps) as seen:
        blank = torch.zeros(1, channels, px, px)
        pooled = student.forward_head(student.forward_features(blank), pre_logits=True)  # type: ignore[operator]
    return {"pooled": pooled.shape, **{tap: seen[tap].shape for tap in taps}}


@dataclasses.dataclass(frozen=True)
class Lesson:
    """Batches, what the teacher says of them, and how an answer is judged: the same for a student before and after a cut.

    `taps`: the student's modules that feature losses read. `seed`: of adapters' first weights.
    """

    feed: Feed
    val: Tensor  # rows of the data set
    said: dict[str, Tensor]
    config: DistilConfig
    taps: list[str]
    class_weights: Tensor | None
    seed: int

    def distiller(self, student: nn.Module) -> Distiller:
        """The student with fresh adapters of the shapes that it has now."""
        render = self.feed.render
        return Distiller(student, self.taps, self.config, self.feed.classes, render.px, render.mean.numel(), self.said,
                         self.class_weights, self.seed)

    def evaluate(self, kept: nn.Module) -> dict[str, float]:
        """Quick figures on the validation split."""
        answers = logits_of(kept, (self.feed.render.plain(rows) for rows in self.val.split(self.config.batch)))
        return metrics.quick(answers, self.feed.labels[self.val].numpy())

    def read(self) -> dict[str, str]:
        """The student's modules that losses in force compare with the teacher, and by which; "" is the pooled features."""
        c, found = self.config, {}
        if self.said and c.exits:
            found = dict.fromkeys(self.taps, "the exits")
        if self.said and c.grid:
            found[self.taps[-1]] = "the grid loss"
        if self.said and c.pooled:
            found[""] = "the pooled loss"
        return found

    def teach(self, student: nn.Module, plan: FitPlan, what: str, checkpoint: Checkpoint, progress: Progress,
              first_epoch: int = 0) -> list[dict[str, Any]]:
        """Train the student in place; gives a history row an epoch. `first_epoch`: of the views and orders shown."""
        distiller = self.distiller(student)
        return fit(distiller, student, lambda epoch: self.feed.epoch(first_epoch + epoch), distiller.loss, plan, what=what,
                   steps=self.feed.steps, checkpoint=checkpoint, evaluate=self.evaluate, progress=progress)


def lesson(dataset: Dataset, knowledge: Knowledge | None, config: DistilConfig, taps: list[str], view: ViewsConfig,
           renderer: views.Renderer, seed: int) -> Lesson:
    """The lesson of a build. `seed`: the build's own, which drew the views; `config.seed` is added for the student's.

    Raises RecipeError when the grid loss asks for maps that the knowledge lacks.
    """
    said = arrays(knowledge) if knowledge is not None else {}
    if said and config.grid and "grid" not in said:
        raise RecipeError("distil.grid needs the teacher's maps, and its knowledge holds none")
    classes = len(dataset.classes)
    labels = torch.from_numpy(data.labels(dataset))
    train = torch.from_numpy(data.rows(dataset, "train"))
    class_weights = None
    if config.balance == "loss":
        by_row = balanced(labels[train], classes)
        class_weights = torch.stack([by_row[labels[train] == k][0] for k in range(classes)])
    feed = Feed(renderer, train, labels, classes, view, seed, config.batch, config.balance, config.label_smoothing, said,
                config.seed)
    return Lesson(feed, torch.from_numpy(data.rows(dataset, "val")), said, config, taps, class_weights, seed + config.seed)


def weights_in_force(config: DistilConfig, taught: bool) -> dict[str, float]:
    """The loss weights, for the report."""
    if not taught:
        return {"labels": 1.0}
    named = {"labels": 1 - config.alpha, "logits": config.alpha, "pooled": config.pooled, "grid": config.grid,
             "exits": config.exits}
    return {name: weight for name, weight in named.items() if weight}
