"""teacher, distil, prune, qat, export, convert -> evaluate: every network's answers to the same test images."""

from __future__ import annotations

import numpy as np
import torch

from edgekd.core.artifacts import (
    Dataset,
    Evaluation,
    Exported,
    Inputs,
    LiteModel,
    Network,
    QuantNetwork,
)
from edgekd.core.context import Context
from edgekd.data import datasets
from edgekd.networks import builders
from edgekd.networks.inference import logits_of, precision
from edgekd.quantization.qat_network import exact, predict, restore
from edgekd.tflite import onnx_runner, runtime
from edgekd.training import views

BATCH = 64


def run(
    dataset: Dataset,
    inputs: Inputs,
    teacher: Network | None,
    student: Network,
    pruned: Network | None,
    qat: QuantNetwork,
    exported: Exported,
    model: LiteModel,
    *,
    wanted_precision: str,
    context: Context,
) -> Evaluation:
    """Run all of them. The teacher sees the images at its own size, the others exactly the device's inputs."""
    labels = datasets.labels(dataset, "test")
    images = datasets.input_images(inputs, "test", len(student.mean))
    answers: dict[str, np.ndarray] = {}
    floats = {"student": student} | ({"pruned": pruned} if pruned is not None else {})
    names = [*(["teacher"] if teacher is not None else []), *floats, "qat", "onnx", "tflite"]

    def told(stage: str, logits: np.ndarray) -> None:
        answers[stage] = logits
        context.progress("evaluate", len(answers), len(names))

    if teacher is not None:
        net = builders.restore(teacher)
        render = views.Renderer(datasets.pixels(dataset), teacher.px, teacher.mean, teacher.std)
        rows = torch.from_numpy(datasets.rows(dataset, "test"))
        told(
            "teacher",
            logits_of(
                net, (render.plain(r) for r in rows.split(BATCH)), precision(wanted_precision, net)
            ),
        )
    for name, network in floats.items():
        told(
            name,
            logits_of(
                builders.restore(network),
                (builders.normalised(part, network.mean, network.std) for part in _parts(images)),
            ),
        )
    told("qat", predict(exact(restore(qat, builders.create(qat.arch, qat.options))), images))
    told("onnx", onnx_runner.logits(exported.qdq, images))
    runner = runtime.LiteRunner(model.tflite)
    codes = runner.codes(images)
    told("tflite", runtime.tensor_range(runner.output).dequantize(codes))
    stacked = np.stack([answers[name] for name in names]).astype(np.float32)
    return Evaluation(
        stages=names,
        classes=stacked.shape[-1],
        labels=labels.tolist(),
        logits=stacked.tobytes(),
        codes=codes.tobytes(),
    )


def _parts(images: np.ndarray) -> list[np.ndarray]:
    return [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
