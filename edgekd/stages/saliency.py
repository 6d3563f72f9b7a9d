"""data, inputs, teacher, distil, convert, evaluate -> saliency: where each looks in the report's examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from edgekd import data, examples, lite, networks, saliency, views
from edgekd.artifacts import Dataset, Evaluation, Inputs, LiteModel, Network, Saliency
from edgekd.context import Context
from edgekd.inference import logits_of, precision

BATCH = 64
Answer = Callable[[np.ndarray], np.ndarray]


def run(dataset: Dataset, inputs: Inputs, teacher: Network | None, student: Network, model: LiteModel,
        evaluation: Evaluation, *, wanted_precision: str, context: Context) -> Saliency:
    """A map a network and example. The teacher sees the images at its own size, the others the device's inputs."""
    rows = [row for row, _ in examples.pick(evaluation, dataset.labels)]
    asked_of = [examples.shown_label(evaluation, row) for row in rows]
    images = data.input_images(inputs, "test", len(student.mean))
    runner = lite.LiteRunner(model.tflite)
    grid = lite.tensor_range(runner.output)
    asked: dict[str, tuple[Answer, np.ndarray]] = {}
    if teacher is not None:
        net = networks.restore(teacher)
        render = views.Renderer(data.pixels(dataset), teacher.px, teacher.mean, teacher.std)
        seen = render.plain(torch.from_numpy(data.rows(dataset, "test")[rows]))
        asked["teacher"] = (_answers(net, precision(wanted_precision, net)), seen.permute(0, 2, 3, 1).numpy())
    asked["student"] = (_answers(networks.restore(student), torch.float32),
                        networks.normalised(images[rows], student.mean, student.std).permute(0, 2, 3, 1).numpy())
    asked["tflite"] = (lambda part: grid.dequantize(runner.codes(part)).reshape(len(part), -1), images[rows])
    maps = []
    for number, (answer, shown) in enumerate(asked.values()):
        for place, (image, label) in enumerate(zip(shown, asked_of, strict=True)):
            maps.append(saliency.saliency_map(answer, image, label, dataset.labels))
            context.progress("saliency", number * len(rows) + place + 1, len(asked) * len(rows))
    return Saliency(list(asked), rows, saliency.SIDE, np.stack(maps).tobytes() if maps else b"")


def _answers(net: torch.nn.Module, dtype: torch.dtype) -> Answer:
    """Logits of normalised images float32 [n, px, px, c]."""
    return lambda images: logits_of(net, torch.from_numpy(images).permute(0, 3, 1, 2).split(BATCH), dtype)
