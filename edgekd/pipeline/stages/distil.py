"""data, knowledge -> distil: a student trained on labels and on what the teacher says. Adapters are dropped at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Dataset, Knowledge, Network
from edgekd.core.context import Context
from edgekd.data import datasets
from edgekd.evaluation import metrics
from edgekd.networks import builders
from edgekd.networks.inference import logits_of
from edgekd.settings import model_specs
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import DistilConfig, ViewsConfig
from edgekd.training import views
from edgekd.training.fit import first_rate
from edgekd.training.lesson import Groups, lesson


def run(
    dataset: Dataset,
    knowledge: Knowledge | None,
    teacher: Network | None,
    *,
    config: DistilConfig,
    model: ModelSpec,
    view: ViewsConfig,
    px: int,
    weights_sha256: str,
    groups_sha256: str,
    asking: Mapping[str, Any] | None,
    context: Context,
    channels: str = "3",
) -> Network:
    """Train the student at px x px. With neither knowledge nor a teacher to ask it learns from the labels alone.

    `asking`: how the teacher itself is asked (config.answers "live" or "corrected"), in place of cached knowledge. Raises
    RecipeError for a loss or a mode that this data or this teacher does not allow.
    """
    classes, seed = len(dataset.classes), context.seed + config.seed
    model = model_specs.of_channels(model, datasets.student_channels(dataset, channels))
    torch.manual_seed(seed)
    student, origin = builders.pretrained(model, config.weights, classes, model.options)
    mean, std = builders.normalisation(model, student)
    taught = lesson(
        dataset,
        knowledge,
        config,
        builders.taps(model, student),
        view,
        views.Renderer(datasets.pixels(dataset), px, mean, std),
        context.seed,
        teacher=teacher,
        asking=asking,
        peer=lambda: _peer(model, config, classes, seed),
    )
    lr = first_rate(config.lr, origin)
    history = taught.teach(
        student, taught.fit_plan(config.epochs, lr), "distil", context.checkpoint, context.progress
    )
    facts: dict[str, Any] = {
        "name": model.name,
        "weights": origin,
        "lr": lr,
        "licence": model.licence,
        **taught.facts(),
        **builders.size(student, px, len(mean)),
    }
    if taught.groups is not None:
        facts["groups"] = {
            split: _by_group(
                student,
                taught.feed.render,
                torch.from_numpy(datasets.labels(dataset)),
                torch.from_numpy(datasets.rows(dataset, split)),
                taught.groups,
            )
            for split in ("val", "test")
        }
    return Network(
        arch=model.arch,
        options={**model.options, "num_classes": classes},
        px=px,
        mean=mean,
        std=std,
        history=history,
        facts=facts,
        state=builders.to_bytes(student.state_dict()),
    )


def _peer(model: ModelSpec, config: DistilConfig, classes: int, seed: int) -> nn.Module:
    """A second student, from other first weights; the stream of random numbers goes on as if it had not been made."""
    with torch.random.fork_rng():
        torch.manual_seed(seed + 2**31)
        return builders.pretrained(model, config.weights, classes, model.options)[0]


def _by_group(
    student: nn.Module, render: views.Renderer, labels: Tensor, rows: Tensor, groups: Groups
) -> dict[str, Any]:
    """Top-1 of each group on some images, the lowest of them, and how far they lie apart."""
    answers = logits_of(student, (render.plain(part) for part in rows.split(64)))
    each: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(groups.names):
        inside = (groups.numbers[rows] == number).numpy()
        if inside.any():
            share, n = (
                metrics.top1(answers[inside], labels[rows].numpy()[inside]),
                int(inside.sum()),
            )
            each[name] = {"n": n, "top1": share, "top1_ci95": list(metrics.wilson(share, n))}
    shares = [row["top1"] for row in each.values()]
    return {
        "each": each,
        "worst": min(each, key=lambda name: each[name]["top1"]),
        "gap": max(shares) - min(shares),
    }
