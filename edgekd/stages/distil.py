"""data, knowledge -> distil: a student trained on labels and on what the teacher says. Adapters are dropped at the end."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd import adapters, data, losses, metrics, networks, views
from edgekd.artifacts import Dataset, Knowledge, Network
from edgekd.context import Context
from edgekd.errors import RecipeError
from edgekd.inference import logits_of
from edgekd.models import ModelSpec
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


def run(dataset: Dataset, knowledge: Knowledge | None, *, config: DistilConfig, model: ModelSpec, view: ViewsConfig,
        px: int, weights_sha256: str, context: Context) -> Network:
    """Train the student at px x px. Without knowledge (teacher "none") it learns from the labels alone.

    Raises RecipeError when the grid loss asks for maps that the knowledge lacks.
    """
    classes = len(dataset.classes)
    seed = context.seed + config.seed
    torch.manual_seed(seed)
    student, origin = networks.pretrained(model, config.weights, classes, model.options)
    mean, std = networks.normalisation(model, student)
    said = arrays(knowledge) if knowledge is not None else {}
    if said and config.grid and "grid" not in said:
        raise RecipeError("distil.grid needs the teacher's maps, and its knowledge holds none")
    labels = torch.from_numpy(data.labels(dataset))
    train = torch.from_numpy(data.rows(dataset, "train"))
    val = torch.from_numpy(data.rows(dataset, "val"))
    feed = Feed(views.Renderer(data.pixels(dataset), px, mean, std), train, labels, classes, view, context.seed,
                config.batch, config.balance, config.label_smoothing, said, config.seed)
    class_weights = None
    if config.balance == "loss":
        by_row = balanced(labels[train], classes)
        class_weights = torch.stack([by_row[labels[train] == k][0] for k in range(classes)])
    distiller = Distiller(student, networks.taps(model, student), config, classes, px, len(mean), said, class_weights, seed)

    def evaluate(kept: nn.Module) -> dict[str, float]:
        answers = logits_of(kept, (feed.render.plain(rows) for rows in val.split(config.batch)))
        return metrics.quick(answers, labels[val].numpy())

    plan = FitPlan(config.epochs, config.lr, config.weight_decay, config.warmup, config.schedule, config.ema,
                   config.optimiser)
    history = fit(distiller, student, feed.epoch, distiller.loss, plan, what="distil", steps=feed.steps,
                  checkpoint=context.checkpoint, evaluate=evaluate, progress=context.progress)
    facts: dict[str, Any] = {"name": model.name, "weights": origin, "licence": model.licence,
                             "losses": _losses(config, bool(said)), **networks.size(student, px, len(mean))}
    return Network(arch=model.arch, options={**model.options, "num_classes": classes}, px=px, mean=mean, std=std,
                   history=history, facts=facts, state=networks.to_bytes(student.state_dict()))


def _losses(config: DistilConfig, taught: bool) -> dict[str, float]:
    """The loss weights that were in force, for the report."""
    if not taught:
        return {"labels": 1.0}
    named = {"labels": 1 - config.alpha, "logits": config.alpha, "pooled": config.pooled, "grid": config.grid,
             "exits": config.exits}
    return {name: weight for name, weight in named.items() if weight}
