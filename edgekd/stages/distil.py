"""data, knowledge -> distil: a student trained on labels and on what the teacher says. Adapters are dropped at the end."""

from __future__ import annotations

from typing import Any

import torch

from edgekd import data, networks, views
from edgekd.artifacts import Dataset, Knowledge, Network
from edgekd.context import Context
from edgekd.distiller import lesson, weights_in_force
from edgekd.models import ModelSpec
from edgekd.recipe import DistilConfig, ViewsConfig
from edgekd.training import FitPlan


def run(dataset: Dataset, knowledge: Knowledge | None, *, config: DistilConfig, model: ModelSpec, view: ViewsConfig,
        px: int, weights_sha256: str, context: Context) -> Network:
    """Train the student at px x px. Without knowledge (teacher "none") it learns from the labels alone.

    Raises RecipeError when the grid loss asks for maps that the knowledge lacks.
    """
    classes = len(dataset.classes)
    torch.manual_seed(context.seed + config.seed)
    student, origin = networks.pretrained(model, config.weights, classes, model.options)
    mean, std = networks.normalisation(model, student)
    taught = lesson(dataset, knowledge, config, networks.taps(model, student), view,
                    views.Renderer(data.pixels(dataset), px, mean, std), context.seed)
    plan = FitPlan(config.epochs, config.lr, config.weight_decay, config.warmup, config.schedule, config.ema,
                   config.optimiser)
    history = taught.teach(student, plan, "distil", context.checkpoint, context.progress)
    facts: dict[str, Any] = {"name": model.name, "weights": origin, "licence": model.licence,
                             "losses": weights_in_force(config, bool(taught.said)),
                             **networks.size(student, px, len(mean))}
    return Network(arch=model.arch, options={**model.options, "num_classes": classes}, px=px, mean=mean, std=std,
                   history=history, facts=facts, state=networks.to_bytes(student.state_dict()))
