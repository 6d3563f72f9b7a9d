"""data, inputs, teacher, distil, convert, evaluate -> saliency: which places decide, in the
report's examples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from edgekd.core.artifacts import Dataset, Evaluation, Inputs, LiteModel, Network, Saliency
from edgekd.core.context import Context
from edgekd.data import datasets, on_demand
from edgekd.evaluation import examples, occlusion
from edgekd.networks import builders, compute
from edgekd.networks.inference import logits_of, precision
from edgekd.pipeline.stage_settings import TeacherPrecision
from edgekd.tflite import runtime
from edgekd.training import views

BATCH = 64  # images a forward pass

# Logits [n, k] of images [n, px, px, c]: normalised float32 ones for a network, uint8 ones for a
# .tflite.
Answer = Callable[[np.ndarray], np.ndarray]


@compute.in_full_float32
def run(
    dataset: Dataset,
    inputs: Inputs,
    teacher: Network | None,
    student: Network,
    model: LiteModel,
    evaluation: Evaluation,
    *,
    settings: TeacherPrecision,
    context: Context,
) -> Saliency:
    """A map for each network and example. The teacher sees the images at its own size, the others
    the device's inputs.
    """
    on = compute.of(context)
    rows = [row for row, _ in examples.pick(evaluation, dataset.labels)]
    labels = [examples.shown_label(evaluation, row) for row in rows]
    images = datasets.input_images(inputs, "test", len(student.mean))[rows]
    seen = datasets.network_images(inputs, "test", len(student.mean))[rows]
    networks: dict[str, tuple[Answer, np.ndarray]] = {}
    if teacher is not None:
        networks["teacher"] = _teacher(teacher, dataset, rows, settings.precision, on, context)
    networks["student"] = _student(student, seen, on)
    networks["tflite"] = _file(model, images)
    maps = []
    for number, (answer, shown) in enumerate(networks.values()):
        for place, (image, label) in enumerate(zip(shown, labels, strict=True)):
            maps.append(occlusion.saliency_map(answer, image, label, dataset.labels))
            context.progress("saliency", number * len(rows) + place + 1, len(networks) * len(rows))
    blob = np.stack(maps).tobytes() if maps else b""
    return Saliency(list(networks), rows, occlusion.SIDE, blob)


def _teacher(
    teacher: Network,
    dataset: Dataset,
    rows: list[int],
    wanted: str,
    on: compute.Compute,
    context: Context,
) -> tuple[Answer, np.ndarray]:
    net = on.place(builders.restore(teacher))
    pixels = on_demand.pixels(dataset, context.source)
    render = views.Renderer(pixels, teacher.px, teacher.mean, teacher.std)
    seen = render.plain(torch.from_numpy(datasets.rows(dataset, "test")[rows]))
    return _answers(net, precision(wanted, net, on)), seen.permute(0, 2, 3, 1).numpy()


def _student(
    student: Network, images: npt.NDArray[np.uint8], on: compute.Compute
) -> tuple[Answer, np.ndarray]:
    seen = builders.normalised(images, student.mean, student.std)
    answer = _answers(on.place(builders.restore(student)), torch.float32)
    return answer, seen.permute(0, 2, 3, 1).numpy()


def _file(model: LiteModel, images: npt.NDArray[np.uint8]) -> tuple[Answer, np.ndarray]:
    runner = runtime.LiteRunner(model.tflite)
    grid = runtime.tensor_range(runner.output)
    return lambda part: grid.dequantize(runner.codes(part)).reshape(len(part), -1), images


def _answers(net: torch.nn.Module, dtype: torch.dtype) -> Answer:
    """The network as a function of normalised images float32 [n, px, px, c]."""
    return lambda images: logits_of(
        net, torch.from_numpy(images).permute(0, 3, 1, 2).split(BATCH), dtype
    )
