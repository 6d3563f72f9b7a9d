"""How long a training step takes on this machine, measured before anything is trained."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from torch import Tensor

from edgekd.core.context import Hardware, MemoryCheckpoint
from edgekd.networks import builders, compute
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import Recipe
from edgekd.training import batch_rule, threads, views
from edgekd.training.batches import Batch, Feed
from edgekd.training.fit import fit
from edgekd.training.fit_plan import FitPlan, Step, first_rate
from edgekd.training.losses import label_losses
from edgekd.training.view_sizes import Resizing

# Steps that are timed, and those before them: they are slower, because libraries choose their
# kernels and memory is allocated for the first time.
TIMED, FIRST = 5, 2
CLASSES = 2  # the classifier is a small part of a student: more classes take no longer


@compute.in_full_float32
def seconds_per_image(
    model: ModelSpec,
    recipe: Recipe,
    hardware: Hardware = Hardware(),  # noqa: B008 - it is frozen
) -> float:
    """Seconds of float training for one image on this machine, by TIMED steps.

    A step does what one of the stage "distil" does: it renders views of random pixels, and runs,
    updates and averages the network. The losses on the teacher's answers are missing. A second core
    computes most of them beside the step (`edgekd.training.beside`); with one core, those on pooled
    features take two fifths of a step. A GPU tells of its steps late and several at a time: the
    time of all steps counts there, with what it takes to start. Leaves torch's random state as it
    was.
    """
    on = compute.chosen(hardware)
    with torch.random.fork_rng(devices=[]), threads.training():
        torch.manual_seed(0)
        net = on.place(builders.create(model.arch, {**model.options, "num_classes": CLASSES}))
        mean, std = builders.normalisation(model, net)
        feed = _feed(recipe, mean, std, on)
        ends: list[float] = []

        def loss(batch: Batch, _step: Step) -> Tensor:
            with compute.autocast(on.training, on.device):
                logits = net(batch.images)
            return label_losses.cross_entropy(logits.float(), batch.targets)

        def progress(what: str, done: int, total: int, **figures: float) -> None:
            del what, done, total, figures
            ends.append(time.perf_counter())

        config = recipe.distil
        plan = FitPlan(1, first_rate(config.lr, "random"), config.weight_decay, ema=config.ema)
        start = time.perf_counter()
        fit(
            net,
            net,
            feed.epoch,
            loss,
            plan,
            what="step time",
            steps=feed.steps,
            checkpoint=MemoryCheckpoint(),
            progress=progress,
            compute=on,
        )
    if not on.is_host:
        return (time.perf_counter() - start) / feed.steps / feed.batch
    steps = np.diff(ends)[FIRST - 1 :]
    return float(statistics.median(steps)) / feed.batch


def _feed(recipe: Recipe, mean: list[float], std: list[float], on: compute.Compute) -> Feed:
    """Batches of random pixels, for FIRST and TIMED steps."""
    batch, side = recipe.distil.batch or batch_rule.BASE, recipe.data.cache_px
    pixels = np.random.default_rng(0).integers(0, 256, (batch, len(mean), side, side), np.uint8)
    px = recipe.data.input_px
    resizing = Resizing.of(recipe.views.resizers, recipe.ports.sides(px), px)
    return Feed(
        views.Renderer(pixels, px, mean, std, on.device, resizing),
        np.arange(batch, dtype=np.uint64),
        torch.arange(batch).repeat(FIRST + TIMED),
        torch.zeros(batch, dtype=torch.long),
        CLASSES,
        recipe.views,
        0,
        batch,
    )
