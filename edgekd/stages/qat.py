"""data, inputs, distil or prune -> qat: the student trained with TFLite's int8 arithmetic in the loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd import clipping, data, logit_losses, losses, metrics, networks, tables, views
from edgekd.artifacts import Dataset, Inputs, Network, QuantNetwork
from edgekd.context import Context
from edgekd.int8 import Int8Rules
from edgekd.post_training import quantise
from edgekd.quantnet import QatNetwork, calibrate, finish, predict, prepare, set_phase
from edgekd.recipe import QatConfig, ViewsConfig
from edgekd.targets import Batch, Feed, cells
from edgekd.training import FitPlan, Step, fit


def run(dataset: Dataset, inputs: Inputs, distilled: Network, pruned: Network | None, *, config: QatConfig,
        rules: Mapping[str, Any], view: ViewsConfig, balance: str, groups: str, groups_sha256: str,
        context: Context) -> QuantNetwork:
    """Train on with fake-quantisers at every edge of the int8 graph; the float student goes on teaching.

    Ranges start from the calibration images, follow the training for `config.observe` of its steps, then freeze, so
    that the last weights are tuned to the ranges that ship. Without epochs the calibrated network is the result,
    equalised, rounded and corrected on the calibration images. `groups`: the CSV that balance "group" reads. A pruned student
    takes the distilled one's place. Raises UnsupportedNetwork, before any training, for an op that has no int8 rule.
    """
    student = distilled if pruned is None else pruned
    if dataset.labels == "many":
        rules = {**rules, "softmax": "none"}  # labels do not exclude each other; the file's logits are each label's own
    teacher = networks.restore(student)
    network = prepare(networks.restore(student), student.px, student.mean, student.std, Int8Rules.from_dict(rules))
    shown = data.input_images(inputs, "calibration", len(student.mean))
    pinned = clipping.parse(config.pin)
    batches = [networks.normalised(shown[start : start + config.batch], student.mean, student.std)
               for start in range(0, len(shown), config.batch)]
    calibrate(network, batches)
    if pinned:
        set_phase(network, "float")
        clipping.pin(network, pinned, clipping.observe(network, batches, context.seed))
        set_phase(network, "observe")
    if not config.epochs:
        quantise(network, batches)
        return _kept(network, student, [])
    labels = torch.from_numpy(data.labels(dataset))
    of_group = torch.tensor(tables.groups(Path(groups), dataset.images)[1]) if groups else None
    feed = Feed(views.Renderer(data.pixels(dataset), student.px, student.mean, student.std),
                torch.from_numpy(data.rows(dataset, "train")), labels, len(dataset.classes), view, context.seed,
                config.batch, cells(balance, labels, of_group))
    frozen_from = round(config.epochs * feed.steps * config.observe)

    def loss(batch: Batch, step: Step) -> Tensor:
        set_phase(network, "observe" if step.index < frozen_from else "frozen")
        with torch.no_grad():
            said = teacher(batch.images)
        logits = network(batch.images)
        return (config.alpha * logit_losses.follow(logits, said, config.temperature, dataset.labels)
                + (1 - config.alpha) * losses.fit(dataset.labels)(logits, batch.targets, None))

    val = data.input_images(inputs, "val", len(student.mean))
    val_labels = data.labels(dataset, "val")

    def evaluate(kept: nn.Module) -> dict[str, float]:
        set_phase(network, "frozen")  # looking at the validation set must not move a range
        return metrics.quick(predict(network, val), val_labels)

    history = fit(network, network, feed.epoch, loss, FitPlan(config.epochs, config.lr, config.weight_decay, 0.05,
                                                                       optimiser=config.optimiser),
                  what="qat", steps=feed.steps, checkpoint=context.checkpoint, evaluate=evaluate,
                  progress=context.progress)
    return _kept(network, student, history)


def _kept(network: QatNetwork, student: Network, history: list[dict[str, float]]) -> QuantNetwork:
    done = finish(network)
    return QuantNetwork(arch=student.arch, options=student.options, px=student.px, mean=student.mean, std=student.std,
                        history=history, rules=network.rules.to_dict(), ranges=done.ranges, layers=done.layers,
                        facts={"name": student.facts["name"]}, state=done.state)
