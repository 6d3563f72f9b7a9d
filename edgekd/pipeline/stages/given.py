"""A network of the user's own in the place of a trained student.

run       the network, recorded as an artifact           (the stage "distil")
answered  images with the network's answers as labels    (the stage "data", without labels)
"""

from __future__ import annotations

import dataclasses

import torch

from edgekd.core.artifact_rows import ImageRow
from edgekd.core.artifacts import Dataset, Network
from edgekd.core.context import Context
from edgekd.data import datasets, input_builder, on_demand, unsorted
from edgekd.networks import builders, compute, inference
from edgekd.pipeline.stage_settings import AnsweredSettings, GivenSettings
from edgekd.quantization import given_network
from edgekd.training import views


@compute.in_full_float32
def run(*, settings: GivenSettings, context: Context) -> Network:
    """The user's network, recorded. Raises what loading and recording it raise."""
    del context  # nothing here is random
    return given_network.network(settings.config)


def answered(student: Network, *, settings: AnsweredSettings, context: Context) -> Dataset:
    """A data set of images without labels of their own, labelled by the network's top-1 answers.

    Accuracy against these labels is agreement with the float network. Validation and test images
    are answered as the device sees them. Training images have no label where nothing reads one
    (`AnsweredSettings.unread`).
    """
    found = unsorted.build(
        context.source,
        settings.config,
        given_network.classes(student),
        context.seed,
        lambda done, total: context.progress("images", done, total),
        student.px,
    )
    labels = _answers(found, student, settings, context)
    rows: list[ImageRow] = [
        {**row, "label": labels.get(number)} for number, row in enumerate(found.images)
    ]
    return dataclasses.replace(found, images=rows, facts=unsorted.counted(found, rows))


def _answers(
    found: Dataset, student: Network, settings: AnsweredSettings, context: Context
) -> dict[int, int]:
    """The network's answer to each image that needs one, by its row."""
    config = settings.config
    answers: dict[int, int] = {}
    shown = input_builder.build_inputs(
        context.source, found, student.px, context.seed, config.fit, 1, 1
    )
    for split in ("val", "test"):
        images = datasets.input_images(shown, split, len(student.mean))
        top1 = inference.answers_of(student, images).argmax(1)
        answers |= zip(datasets.rows(found, split).tolist(), top1.tolist(), strict=True)
    train = torch.from_numpy(datasets.rows(found, "train"))
    if len(train) > settings.unread:
        pixels = on_demand.pixels(found, context.source)
        render = views.Renderer(pixels, student.px, student.mean, student.std)
        batch = max(1, inference.PIXELS // student.px**2)
        net = builders.restore(student)
        top1 = inference.logits_of(net, (render.plain(part) for part in train.split(batch)))
        answers |= zip(train.tolist(), top1.argmax(1).tolist(), strict=True)
    return answers
