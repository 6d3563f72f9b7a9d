"""data -> teacher: a network that knows. Fine-tuned, trained from nothing, or frozen with a linear head on its features."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Dataset, Network
from edgekd.core.context import Context
from edgekd.core.errors import RecipeError
from edgekd.data import datasets
from edgekd.evaluation import metrics
from edgekd.networks import builders
from edgekd.networks.inference import logits_and_features, logits_of, precision
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import TeacherConfig, ViewsConfig
from edgekd.training import linear_head, views
from edgekd.training.fit import FitPlan, balanced, first_rate, fit, shuffled
from edgekd.training.losses import label_losses
from edgekd.training.processes import team


def run(
    dataset: Dataset,
    *,
    config: TeacherConfig,
    model: ModelSpec,
    view: ViewsConfig,
    px: int,
    weights_sha256: str,
    context: Context,
) -> Network:
    """Train or fit the teacher on the training split and evaluate it on validation and test.

    `px`: its input size. Raises WeightsError for weights that do not fit, RecipeError for a frozen network without any.
    """
    if config.mode == "frozen" and (
        config.weights == "none" or not (config.weights or model.package)
    ):
        raise RecipeError(
            f"a frozen teacher needs weights, and {model.name} has none",
            f"name a file, {model.name}@FILE.safetensors, or leave --teacher-frozen out",
        )
    classes = len(dataset.classes)
    options: dict[str, Any] = {"img_size": px} if builders.accepts_size(model.arch) else {}
    torch.manual_seed(context.seed)
    net, origin = builders.pretrained(model, config.weights, classes, {**model.options, **options})
    mean, std = builders.normalisation(model, net)
    render = views.Renderer(datasets.pixels(dataset), px, mean, std)
    train = torch.from_numpy(datasets.rows(dataset, "train"))
    labels = torch.from_numpy(datasets.labels(dataset))
    config = dataclasses.replace(config, lr=first_rate(config.lr, origin))
    history: list[dict[str, Any]] = []
    if config.mode == "frozen":
        how = {"head_decay": _fit_head(net, render, train, labels, classes, config, view, context)}
    else:
        history = _finetune(net, render, train, labels, classes, config, view, context, dataset)
        how = {"lr": config.lr}
    dtype = precision(config.precision, net)

    def judged() -> dict[str, Any]:
        found = {}
        for split in ("val", "test"):
            rows = torch.from_numpy(datasets.rows(dataset, split))
            answers = logits_of(
                net, (render.plain(part) for part in rows.split(config.batch)), dtype
            )
            found[split] = metrics.evaluate(answers, labels[rows].numpy())
        return found

    return Network(
        arch=model.arch,
        options={**model.options, **options, "num_classes": classes},
        px=px,
        mean=mean,
        std=std,
        history=history,
        facts={
            "name": model.name,
            "weights": origin,
            "mode": config.mode,
            "licence": model.licence,
            "metrics": team().once(judged),
            **how,
            **builders.size(net, px),
        },
        state=builders.to_bytes(net.state_dict()),
    )


def _finetune(
    net: nn.Module,
    render: views.Renderer,
    train: Tensor,
    labels: Tensor,
    classes: int,
    config: TeacherConfig,
    view: ViewsConfig,
    context: Context,
    dataset: Dataset,
) -> list[dict[str, Any]]:
    """All weights, fresh views every epoch, classes sampled evenly, cross-entropy on mixed labels.

    Of several labels each is balanced in the loss instead.
    """
    count, several = len(labels), dataset.labels == "many"
    weights = None if several else balanced(labels[train], classes)
    parts = label_losses.label_weights(labels[train]) if several else None
    of_labels = label_losses.fit(dataset.labels)
    val = torch.from_numpy(datasets.rows(dataset, "val"))

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        drawn = views.draw(view, context.seed, epoch, count, among=train)
        for order in shuffled(len(train), config.batch, context.seed, epoch, weights):
            rows = train[order]
            own, other = (
                label_losses.soften(labels[r], classes, 0.1) for r in (rows, drawn.partner[rows])
            )
            yield render.views(rows, drawn), label_losses.mixed(own, other, drawn.share[rows])

    def loss(batch: tuple[Tensor, Tensor], _step: Any) -> Tensor:
        return of_labels(net(batch[0]), batch[1], parts)

    def evaluate(kept: nn.Module) -> dict[str, float]:
        answers = logits_of(kept, (render.plain(part) for part in val.split(config.batch)))
        return metrics.quick(answers, labels[val].numpy())

    plan = FitPlan(
        config.epochs, config.lr, config.weight_decay, ema=0.99, optimiser=config.optimiser
    )
    return fit(
        net,
        net,
        batches,
        loss,
        plan,
        what="teacher",
        steps=len(train) // min(config.batch, len(train)),
        checkpoint=context.checkpoint,
        evaluate=evaluate,
        progress=context.progress,
    )


def _fit_head(
    net: nn.Module,
    render: views.Renderer,
    train: Tensor,
    labels: Tensor,
    classes: int,
    config: TeacherConfig,
    view: ViewsConfig,
    context: Context,
) -> float:
    """A linear head on the frozen backbone's pooled features of plain and augmented training images; gives its decay."""
    head = net.get_classifier()  # type: ignore[operator]
    if not isinstance(head, nn.Linear):
        raise RecipeError(
            f"the classifier of {type(net).__name__} is not one linear layer",
            'use teacher.mode = "finetune"',
        )
    plain = dataclasses.replace(view, mixup=0.0)  # a mixed image has no single label to regress on
    dtype = precision(config.precision, net)
    x = torch.empty(
        1 + config.head_views, len(train), head.in_features
    )  # one block: see knowledge.py
    for number in range(1 + config.head_views):
        drawn = (
            views.draw(plain, context.seed, number - 1, len(labels), among=train)
            if number
            else None
        )

        def features(start: int, drawn: views.Views | None = drawn) -> Tensor:
            rows = train[start : start + config.batch]
            images = render.plain(rows) if drawn is None else render.views(rows, drawn)
            return logits_and_features(net, images, dtype)[1]

        for start, found in team().spread(features, range(0, len(train), config.batch)):
            x[number, start : start + config.batch] = found
            context.progress(
                "teacher features",
                number * len(train) + start + len(found),
                x.shape[0] * x.shape[1],
            )
    fitted = linear_head.fit(x, labels[train], classes, config.head_decay, context.seed)
    with torch.no_grad():
        head.weight.copy_(fitted.weight)
        head.bias.copy_(fitted.bias)
    return fitted.decay
