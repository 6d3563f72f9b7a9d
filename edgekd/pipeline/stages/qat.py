"""data, inputs, distil or prune -> qat: the student trained with TFLite's int8 arithmetic in the loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Dataset, Inputs, Network, QuantNetwork
from edgekd.core.context import Context
from edgekd.data import datasets, tables
from edgekd.evaluation import metrics
from edgekd.networks import builders
from edgekd.quantization import range_pinning
from edgekd.quantization.post_training import quantise
from edgekd.quantization.qat_network import (
    QatNetwork,
    calibrate,
    finish,
    predict,
    prepare,
    set_phase,
)
from edgekd.settings.recipe import QatConfig, ViewsConfig
from edgekd.tflite.int8_rules import Int8Rules
from edgekd.training import views
from edgekd.training.batches import Batch, Feed, cells
from edgekd.training.fit import FitPlan, Step, fit
from edgekd.training.losses import label_losses, logit_losses


def run(
    dataset: Dataset,
    inputs: Inputs,
    distilled: Network,
    pruned: Network | None,
    *,
    config: QatConfig,
    rules: Mapping[str, Any],
    view: ViewsConfig,
    balance: str,
    groups: str,
    groups_sha256: str,
    context: Context,
) -> QuantNetwork:
    """Train on with fake-quantisers at every edge of the int8 graph; the float student goes on teaching.

    Ranges start from the calibration images, follow the training for `config.observe` of its steps, then freeze, so
    that the last weights are tuned to the ranges that ship. Without epochs the calibrated network is the result,
    equalised, rounded and corrected on the calibration images. `groups`: the CSV that balance "group" reads. A pruned student
    takes the distilled one's place. Raises UnsupportedNetwork, before any training, for an op that has no int8 rule.
    """
    student = distilled if pruned is None else pruned
    if dataset.labels == "many":
        rules = {
            **rules,
            "softmax": "none",
        }  # labels do not exclude each other; the file's logits are each label's own
    teacher = builders.restore(student)
    network = prepare(
        builders.restore(student), student.px, student.mean, student.std, Int8Rules.from_dict(rules)
    )
    shown = datasets.input_images(inputs, "calibration", len(student.mean))
    pinned = range_pinning.parse(config.pin)
    batches = [
        builders.normalised(shown[start : start + config.batch], student.mean, student.std)
        for start in range(0, len(shown), config.batch)
    ]
    calibrate(network, batches)
    if pinned:
        set_phase(network, "float")
        range_pinning.pin(network, pinned, range_pinning.observe(network, batches, context.seed))
        set_phase(network, "observe")
    if not config.epochs:
        quantise(network, batches)
        return _kept(network, student, [])
    labels = torch.from_numpy(datasets.labels(dataset))
    of_group = torch.tensor(tables.groups(Path(groups), dataset.images)[1]) if groups else None
    feed = Feed(
        views.Renderer(datasets.pixels(dataset), student.px, student.mean, student.std),
        torch.from_numpy(datasets.rows(dataset, "train")),
        labels,
        len(dataset.classes),
        view,
        context.seed,
        config.batch,
        cells(balance, labels, of_group),
    )
    frozen_from = round(config.epochs * feed.steps * config.observe)

    def loss(batch: Batch, step: Step) -> Tensor:
        set_phase(network, "observe" if step.index < frozen_from else "frozen")
        with torch.no_grad():
            said = teacher(batch.images)
        logits = network(batch.images)
        return config.alpha * logit_losses.follow(
            logits, said, config.temperature, dataset.labels
        ) + (1 - config.alpha) * label_losses.fit(dataset.labels)(logits, batch.targets, None)

    val = datasets.input_images(inputs, "val", len(student.mean))
    val_labels = datasets.labels(dataset, "val")

    def evaluate(kept: nn.Module) -> dict[str, float]:
        set_phase(network, "frozen")  # looking at the validation set must not move a range
        return metrics.quick(predict(network, val), val_labels)

    history = fit(
        network,
        network,
        feed.epoch,
        loss,
        FitPlan(config.epochs, config.lr, config.weight_decay, 0.05, optimiser=config.optimiser),
        what="qat",
        steps=feed.steps,
        checkpoint=context.checkpoint,
        evaluate=evaluate,
        progress=context.progress,
    )
    return _kept(network, student, history)


def _kept(network: QatNetwork, student: Network, history: list[dict[str, float]]) -> QuantNetwork:
    done = finish(network)
    return QuantNetwork(
        arch=student.arch,
        options=student.options,
        px=student.px,
        mean=student.mean,
        std=student.std,
        history=history,
        rules=network.rules.to_dict(),
        ranges=done.ranges,
        layers=done.layers,
        facts={"name": student.facts["name"]},
        state=done.state,
    )
