"""How well a network of a finished or paused stage answers the images of a split."""

from __future__ import annotations

import torch

from edgekd.core.artifacts import Dataset, Network
from edgekd.core.context import Hardware
from edgekd.data import datasets, on_demand
from edgekd.data.sources import Source
from edgekd.evaluation import metrics
from edgekd.evaluation.accuracy_record import Figures
from edgekd.networks import builders, compute
from edgekd.networks.inference import logits_of
from edgekd.training import views

BATCH = 64  # images a forward pass, as where stages judge students


@compute.in_full_float32
def of_split(
    network: Network, dataset: Dataset, source: Source | None, split: str, hardware: Hardware
) -> Figures:
    """The figures with intervals. `source`: where images come from that are not stored.

    The images are those of the data set, resized as training resizes them after each epoch. The
    report of a build judges the network on the device's own inputs instead, which are decoded to
    the student's size at once.
    """
    on = compute.chosen(hardware)
    net = on.place(builders.restore(network))
    pixels = on_demand.pixels(dataset, source)
    render = views.Renderer(pixels, network.px, network.mean, network.std, on.device)
    rows = torch.from_numpy(datasets.rows(dataset, split))
    answers = logits_of(net, (render.plain(part) for part in rows.split(BATCH)))
    return metrics.evaluate(answers, datasets.labels(dataset, split))
