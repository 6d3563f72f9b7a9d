"""data, inputs, teacher, distil, convert, evaluate -> saliency: where each looks in the report's examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from edgekd.core.artifacts import Dataset, Evaluation, Inputs, LiteModel, Network, Saliency
from edgekd.core.context import Context
from edgekd.data import datasets
from edgekd.evaluation import examples, occlusion
from edgekd.networks import builders
from edgekd.networks.inference import logits_of, precision
from edgekd.tflite import runtime
from edgekd.training import views

BATCH = 64
Answer = Callable[[np.ndarray], np.ndarray]


def run(
    dataset: Dataset,
    inputs: Inputs,
    teacher: Network | None,
    student: Network,
    model: LiteModel,
    evaluation: Evaluation,
    *,
    wanted_precision: str,
    context: Context,
) -> Saliency:
    """A map a network and example. The teacher sees the images at its own size, the others the device's inputs."""
    rows = [row for row, _ in examples.pick(evaluation, dataset.labels)]
    asked_of = [examples.shown_label(evaluation, row) for row in rows]
    images = datasets.input_images(inputs, "test", len(student.mean))
    runner = runtime.LiteRunner(model.tflite)
    grid = runtime.tensor_range(runner.output)
    asked: dict[str, tuple[Answer, np.ndarray]] = {}
    if teacher is not None:
        net = builders.restore(teacher)
        render = views.Renderer(datasets.pixels(dataset), teacher.px, teacher.mean, teacher.std)
        seen = render.plain(torch.from_numpy(datasets.rows(dataset, "test")[rows]))
        asked["teacher"] = (
            _answers(net, precision(wanted_precision, net)),
            seen.permute(0, 2, 3, 1).numpy(),
        )
    asked["student"] = (
        _answers(builders.restore(student), torch.float32),
        builders.normalised(images[rows], student.mean, student.std).permute(0, 2, 3, 1).numpy(),
    )
    asked["tflite"] = (
        lambda part: grid.dequantize(runner.codes(part)).reshape(len(part), -1),
        images[rows],
    )
    maps = []
    for number, (answer, shown) in enumerate(asked.values()):
        for place, (image, label) in enumerate(zip(shown, asked_of, strict=True)):
            maps.append(occlusion.saliency_map(answer, image, label, dataset.labels))
            context.progress("saliency", number * len(rows) + place + 1, len(asked) * len(rows))
    return Saliency(list(asked), rows, occlusion.SIDE, np.stack(maps).tobytes() if maps else b"")


def _answers(net: torch.nn.Module, dtype: torch.dtype) -> Answer:
    """Logits of normalised images float32 [n, px, px, c]."""
    return lambda images: logits_of(
        net, torch.from_numpy(images).permute(0, 3, 1, 2).split(BATCH), dtype
    )
