"""A network of the user's own in the place of a trained student.

run       the network, recorded as an artifact           (the stage "distil")
answered  images with the network's answers as labels    (the stage "data", without labels)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from edgekd.core.artifact_rows import ImageRow
from edgekd.core.artifacts import Dataset, Network
from edgekd.core.context import Context
from edgekd.core.pages import Resident
from edgekd.data import datasets, input_builder, on_demand, unsorted
from edgekd.networks import builders, compute
from edgekd.networks.inference import logits_of
from edgekd.pipeline.stage_settings import AnsweredSettings, GivenSettings
from edgekd.quantization import given_network
from edgekd.training import views

BATCH = 32  # images a forward pass: a network at 224 px takes about 1 GB with them


@compute.in_full_float32
def run(*, settings: GivenSettings, context: Context) -> Network:
    """The user's network, recorded. Raises what loading and recording it raise."""
    del context  # nothing here is random
    return given_network.network(settings.config)


def answered(student: Network, *, settings: AnsweredSettings, context: Context) -> Dataset:
    """A data set of images without labels of their own, labelled by the network's top-1 answers.

    Accuracy against these labels is agreement with the float network. Validation and test images
    are answered as the device sees them.
    """
    found = unsorted.build(
        context.source,
        settings.config,
        given_network.classes(student),
        context.seed,
        lambda done, total: context.progress("images", done, total),
    )
    net = builders.restore(student)
    labels = _answers(found, student, net, settings, context)
    rows: list[ImageRow] = [
        {**row, "label": int(label)} for row, label in zip(found.images, labels, strict=True)
    ]
    return dataclasses.replace(found, images=rows, facts=unsorted.counted(found, rows))


def _answers(
    found: Dataset,
    student: Network,
    net: torch.nn.Module,
    settings: AnsweredSettings,
    context: Context,
) -> np.ndarray:
    """The network's answer to each image, int64 [n]."""
    answers = np.full(len(found.images), -1, np.int64)
    config = settings.config
    shown = input_builder.build_inputs(
        context.source, found, student.px, context.seed, config.fit, 1, 1
    )
    for split in ("val", "test"):
        images = datasets.input_images(shown, split, len(student.mean))
        answers[datasets.rows(found, split)] = _top1(net, _batches(images, student))
    pixels = on_demand.pixels(found, context.source)
    render = views.Renderer(pixels, student.px, student.mean, student.std)
    train = torch.from_numpy(datasets.rows(found, "train"))
    answers[train.numpy()] = _top1(net, (render.plain(part) for part in train.split(BATCH)))
    return answers


def _batches(images: np.ndarray, student: Network) -> Iterator[Tensor]:
    resident = Resident(images)
    for start in range(0, len(images), BATCH):
        resident.used(BATCH, images[0].nbytes)
        yield builders.normalised(images[start : start + BATCH], student.mean, student.std)


def _top1(net: torch.nn.Module, batches: Iterator[Tensor]) -> np.ndarray:
    found: np.ndarray = logits_of(net, batches).argmax(1)
    return found
