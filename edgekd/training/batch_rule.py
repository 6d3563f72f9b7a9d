"""How many images a step takes where `distil.batch` is 0, and what a larger batch changes.

A GPU computes a step of 128 small images in about the time of a step of 32. A larger batch takes
fewer steps, which have to go further:

    learning rate * (batch / 32)            for SGD (Goyal et al. 2017, arXiv 1706.02677)
    learning rate * (batch / 32)^(1/2)      for AdamW (Malladi et al. 2022, arXiv 2205.10287)
    decay of the averaged weights ^ (batch / 32), so that they average over as many images

`tools/measure_batch.py` measures what that does to the accuracy.
"""

from __future__ import annotations

import dataclasses

from edgekd.networks.compute import Compute
from edgekd.training.fit_plan import FitPlan

# The batch that the default learning rates suit, and the one on a CPU.
BASE = 32
# Images of MOST_PX a side in the largest batch: a GPU of 8 GB holds them, and an H100 gains little
# beyond (docs/how_to/train_on_a_gpu.md).
MOST, MOST_PX = 512, 96
# Fewest steps in an epoch. With fewer, a short training has too few steps for any learning rate.
FEWEST_STEPS = 40


def chosen(asked: int, images: int, px: int, compute: Compute) -> int:
    """The images in a step: `asked`, or if that is 0 as many as suit the device.

    On a GPU this is the largest power of two that leaves FEWEST_STEPS steps in an epoch of `images`
    training images, and that holds no more pixels than MOST images of MOST_PX a side; at least
    BASE. On a CPU it is BASE.
    """
    if asked:
        return asked
    if compute.is_host:
        return BASE
    return for_gpu(images, px)


def for_gpu(images: int, px: int) -> int:
    """The images in a step on a GPU: see `chosen`."""
    most = min(images // FEWEST_STEPS, round(MOST * (MOST_PX / px) ** 2))
    batch = BASE
    while 2 * batch <= most:
        batch *= 2
    return batch


def scaled(plan: FitPlan, batch: int) -> FitPlan:
    """A plan for steps of BASE images, changed for steps of `batch` images."""
    times: float = batch / BASE
    return dataclasses.replace(
        plan,
        lr=plan.lr * (times if plan.optimiser == "sgd" else times**0.5),
        ema=plan.ema**times,
    )
