"""How long a teacher takes to answer on this machine, measured before it is trained."""

from __future__ import annotations

import math
import time

import torch

from edgekd.core.context import Hardware
from edgekd.networks import builders, compute, timm_networks
from edgekd.networks.inference import precision
from edgekd.settings.model_specs import ModelSpec
from edgekd.training import threads

# A quarter of the images that a teacher is asked about at a time: enough for the time of one to be
# that of one in a whole batch.
BATCH = 8
# Passes, the fastest of which counts: libraries choose their kernels in the first one, and another
# program may have taken a part of any.
PASSES = 3
CLASSES = 2  # the classifier is a small part of a teacher


@compute.in_full_float32
def seconds_per_view(model: ModelSpec, px: int, wanted: str, hardware: Hardware) -> float:
    """Seconds of a forward pass for one image of `px` pixels a side, with random weights.

    On a CPU every thread answers about images of its own (`teacher_oracle`), so that the time of
    one thread is divided by their number.
    `wanted`: `teacher.precision` of the recipe. Leaves torch's random state as it was.
    """
    on = compute.chosen(hardware)
    with torch.random.fork_rng(devices=[]), threads.alone():
        torch.manual_seed(0)
        size = timm_networks.size_option(model.arch, px)
        options = {**model.options, **size, "num_classes": CLASSES}
        net = on.place(builders.create(model.arch, options)).eval()
        mean, _ = builders.normalisation(model, net)
        images = torch.rand(BATCH, len(mean), px, px).to(on.device)
        dtype = precision(wanted, net, on)
        taken = math.inf
        for _ in range(PASSES):
            start = time.perf_counter()
            with torch.inference_mode(), compute.autocast(dtype, on.device):
                net(images).cpu()  # waits for a GPU
            taken = min(taken, time.perf_counter() - start)
    return taken / BATCH / (threads.total() if on.is_host else 1)
