"""teacher, distil, prune, qat, export, convert -> evaluate: every network's answers to the same
test images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
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
from edgekd.data import datasets, on_demand
from edgekd.export import further_answers
from edgekd.networks import builders, compute, inference
from edgekd.pipeline.stage_settings import TeacherPrecision
from edgekd.quantization import integer_pass
from edgekd.quantization.restoring import rebuild
from edgekd.tflite import onnx_runner, runtime
from edgekd.training import views

BATCH = 64  # images a forward pass, for teachers of any size

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.floating]


@compute.in_full_float32
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
    settings: TeacherPrecision,
    context: Context,
) -> Evaluation:
    """Run every network. The teacher sees the images at its own size, the others exactly the
    device's inputs, which float networks see reduced where the file resizes itself.

    The network with int8 in the loop is computed in float64 on the CPU, as for every build.
    """
    on = compute.of(context)
    images = datasets.input_images(inputs, "test", len(student.mean))
    total = 4 + (teacher is not None) + (pruned is not None)
    answers: dict[str, Logits] = {}

    def keep(stage: str, logits: Logits) -> None:
        answers[stage] = logits
        context.progress("evaluate", len(answers), total)

    if teacher is not None:
        keep("teacher", _teacher_logits(teacher, dataset, settings.precision, on, context))
    seen = datasets.network_images(inputs, "test", len(student.mean))
    keep("student", inference.answers_of(student, seen, on))
    if pruned is not None:
        keep("pruned", inference.answers_of(pruned, seen, on))
    keep("qat", _qat_logits(qat, images))
    keep("onnx", onnx_runner.logits(exported.qdq, images))
    runner = runtime.LiteRunner(model.tflite)
    codes = runner.codes(images)
    keep("tflite", runtime.tensor_range(runner.output).dequantize(codes))
    further, of_file, of_trained = further_answers.measure(
        student, qat, model, images, seen, _golden(inputs)
    )
    stacked = np.stack(list(answers.values())).astype(np.float32)
    return Evaluation(
        stages=list(answers),
        classes=stacked.shape[-1],
        labels=datasets.labels(dataset, "test").tolist(),
        logits=stacked.tobytes(),
        codes=codes.tobytes(),
        further=further,
        further_codes=of_file,
        further_trained=of_trained,
    )


def _golden(inputs: Inputs) -> list[int]:
    """The places of the golden images in the test split."""
    place = {row: number for number, row in enumerate(inputs.rows["test"])}
    return [place[row] for row in inputs.rows["golden"]]


def _teacher_logits(
    teacher: Network, dataset: Dataset, wanted: str, on: compute.Compute, context: Context
) -> Logits:
    net = on.place(builders.restore(teacher))
    pixels = on_demand.pixels(dataset, context.source)
    render = views.Renderer(pixels, teacher.px, teacher.mean, teacher.std, on.device)
    rows = torch.from_numpy(datasets.rows(dataset, "test"))
    shown = (render.plain(part) for part in rows.split(BATCH))
    return inference.logits_of(net, shown, inference.precision(wanted, net, on))


def _qat_logits(qat: QuantNetwork, images: Pixels) -> Logits:
    return integer_pass.answers(rebuild(qat), images)
