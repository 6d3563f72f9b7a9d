"""data, inputs, distil or prune -> qat: the student trained with TFLite's int8 arithmetic in the
loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Dataset, Inputs, Network, QuantNetwork
from edgekd.core.context import Context
from edgekd.data import datasets, on_demand, tables
from edgekd.evaluation import metrics
from edgekd.networks import builders, compute
from edgekd.pipeline.stage_settings import QatSettings
from edgekd.quantization import (
    framing,
    post_training,
    quick_rounding,
    range_pinning,
    restoring,
)
from edgekd.quantization.qat_network import (
    QatNetwork,
    calibrate,
    finish,
    predict,
    prepare,
    set_phase,
)
from edgekd.settings import range_pins
from edgekd.tflite.int8_rules import Int8Rules
from edgekd.training import threads, views
from edgekd.training.batches import Batch, Feed, cells
from edgekd.training.fit import fit
from edgekd.training.fit_plan import FitPlan, Step
from edgekd.training.losses import label_losses, logit_losses
from edgekd.training.view_sizes import Resizing

WARMUP = (
    0.05  # share of the steps in which the learning rate rises: the weights are already trained
)


@compute.in_full_float32
def run(
    dataset: Dataset,
    inputs: Inputs,
    distilled: Network,
    pruned: Network | None,
    *,
    settings: QatSettings,
    context: Context,
) -> QuantNetwork:
    """Train on with fake quantization at every edge of the int8 graph, with the float student as
    the teacher.

    A pruned student takes the place of the distilled one. Ranges start from the calibration images,
    follow the training for `config.observe` of its steps, and then freeze, so that the last weights
    are tuned to the final ranges. Without epochs the result is the calibrated network, equalised,
    rounded and corrected on the calibration images.

    All of it is computed in float32 and float64. Only the training runs on a GPU. With
    `settings.frame` the finished network gets its resize in front.

    Raises UnsupportedNetwork, before any training, for an operator that has no int8 rule.
    """
    student = distilled if pruned is None else pruned
    config = settings.config
    network = prepare(
        builders.restore(student), student.px, student.mean, student.std, _rules(dataset, settings)
    )
    shown = datasets.network_images(inputs, "calibration", len(student.mean))
    batches = [
        builders.normalised(shown[start : start + config.batch], student.mean, student.std)
        for start in range(0, len(shown), config.batch)
    ]
    pinned = range_pins.parse(config.pin)
    rounds_quickly = not config.epochs and config.rounding == "quick"
    if pinned or not rounds_quickly:  # which calibrates in its own pass
        calibrate(network, batches)
    if pinned:
        set_phase(network, "float")
        range_pinning.pin(network, pinned, range_pinning.observe(network, batches, context.seed))
        set_phase(network, "observe")
    history: list[dict[str, float]] = []
    if config.epochs:
        history = _train(network, student, dataset, inputs, settings, context)
    else:
        _round(network, batches, config.rounding)
    trained = _artifact(network, student, history)
    restoring.remember(network, trained)
    return _framed(trained, student, settings.frame) if settings.frame else trained


def _artifact(
    network: QatNetwork, student: Network, history: list[dict[str, float]]
) -> QuantNetwork:
    done = finish(network.cpu())
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


def _framed(trained: QuantNetwork, student: Network, sides: Sequence[int]) -> QuantNetwork:
    """The trained network behind its frame [height, width]."""
    return framing.framed(trained, builders.restore(student), sides)


def _round(network: QatNetwork, batches: list[Tensor], rounding: str) -> None:
    """Bring the network to int8 without training."""
    if rounding == "quick":
        with threads.computing():
            quick_rounding.quantize(network, batches)
    else:
        post_training.quantize(network, batches)


def _rules(dataset: Dataset, settings: QatSettings) -> Int8Rules:
    """The profile's int8 rules. With several labels an image, the file gives each label's own
    logit, without a SOFTMAX.
    """
    rules = dict(settings.rules)
    if dataset.labels == "many":
        rules["softmax"] = "none"
    return Int8Rules.from_dict(rules)


def _train(
    network: QatNetwork,
    student: Network,
    dataset: Dataset,
    inputs: Inputs,
    settings: QatSettings,
    context: Context,
) -> list[dict[str, float]]:
    """Train the network in place, with the float student as its teacher. Returns a row for each
    epoch.

    Where views are resized by several resizers, the teacher sees Pillow's, so that the network
    learns to give the same answers whatever an app resizes with.
    """
    config, on = settings.config, compute.exact_of(context)
    teacher = on.place(builders.restore(student))
    on.place(network)
    feed = _feed(student, dataset, settings, context, on.device)
    frozen_from = round(config.epochs * feed.steps * config.observe)
    label_loss = label_losses.fit(dataset.labels)

    def phase(step: Step) -> str:
        return "observe" if step.index < frozen_from else "frozen"

    def loss(batch: Batch, step: Step) -> Tensor:
        set_phase(network, phase(step))
        with torch.no_grad():
            said = teacher(batch.clearest)
        logits = network(batch.images)
        followed = logit_losses.follow(logits, said, config.temperature, dataset.labels)
        fitted = label_loss(logits, batch.targets, None)
        return config.alpha * followed + (1 - config.alpha) * fitted

    val = datasets.network_images(inputs, "val", len(student.mean))
    val_labels = datasets.labels(dataset, "val")

    def evaluate(_kept: nn.Module) -> dict[str, float]:
        set_phase(network, "frozen")  # evaluating on the validation set must not move a range
        return metrics.quick(predict(network, val), val_labels)

    return fit(
        network,
        network,
        feed.epoch,
        loss,
        FitPlan(config.epochs, config.lr, config.weight_decay, WARMUP, optimiser=config.optimiser),
        what="qat",
        steps=feed.steps,
        checkpoint=context.checkpoint,
        evaluate=evaluate,
        progress=context.progress,
        compute=on,
        variant=phase,
        say=context.say,
    )


def _feed(
    student: Network,
    dataset: Dataset,
    settings: QatSettings,
    context: Context,
    device: torch.device,
) -> Feed:
    """Batches of augmented training images at the student's input size."""
    labels = torch.from_numpy(datasets.training_labels(dataset))
    groups = None
    if settings.groups:
        groups = torch.tensor(
            tables.groups(Path(settings.groups), [row["name"] for row in dataset.images])[1]
        )
    pixels = on_demand.pixels(dataset, context.source)
    return Feed(
        views.Renderer(
            pixels,
            student.px,
            student.mean,
            student.std,
            device,
            Resizing.of(settings.view.resizers, settings.frame, student.px),
        ),
        datasets.identities(dataset),
        torch.from_numpy(datasets.rows(dataset, "train")),
        labels,
        len(dataset.classes),
        settings.view,
        context.seed,
        settings.config.batch,
        cells(settings.balance, labels, groups),
        antialiased=True,
    )
