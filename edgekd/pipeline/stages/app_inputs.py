"""data, inputs, convert, evaluate -> app_inputs: the file on images as other apps make them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import AppInputs, Dataset, Evaluation, Inputs, LiteModel
from edgekd.core.context import Context
from edgekd.core.frames import Frame
from edgekd.core.records import to_json
from edgekd.data import app_variants, frames, images, input_builder, pixel_rules, splits
from edgekd.evaluation import app_inputs
from edgekd.pipeline.stage_settings import AppInputsSettings
from edgekd.tflite.runtime import LiteRunner, tensor_range


def run(
    dataset: Dataset,
    inputs: Inputs,
    model: LiteModel,
    evaluation: Evaluation,
    *,
    settings: AppInputsSettings,
    context: Context,
) -> AppInputs:
    """Decode some test images again, prepare each in every way, and let the file answer.

    At most `settings.config.images` test images are taken, in proportion to the classes.
    """
    labels = np.asarray(evaluation.labels, np.int64)
    chosen = _chosen(labels, settings.config.images, context.seed)
    rows = [inputs.rows["test"][place] for place in chosen]
    logits = np.frombuffer(evaluation.logits, np.float32).reshape(
        len(evaluation.stages), len(labels), -1
    )[evaluation.stages.index("tflite")]
    runner = LiteRunner(model.tflite)
    grid, channels = tensor_range(runner.output), int(runner.input.shape[3])
    frame = Frame.of(inputs.frame, inputs.px)
    px = inputs.px if frame is None else frame.side
    ways = app_variants.variants(px, settings.fit, coloured=channels == 3)
    answers: list[list[npt.NDArray[np.float32]]] = [[] for _ in ways]
    rules = pixel_rules.from_facts(dataset.facts, px, settings.fit)
    coloured = oblong = False
    for number, (_, image) in enumerate(
        input_builder.originals(context.source, dataset, rows, rules)
    ):
        coloured = coloured or not images.is_grey(image)
        oblong = oblong or image.shape[0] != image.shape[1]
        for way, found in zip(ways, answers, strict=True):
            shown = input_builder.with_channels(way.make(image), channels)
            whole = shown if frame is None else frames.placed(shown, frame)
            found.append(grid.dequantize(runner.codes(whole[None])))
        context.progress("app_inputs", number + 1, len(rows))
    prepared = [
        app_inputs.Prepared(way, np.concatenate(found).reshape(len(rows), -1))
        for way, found in zip(ways, answers, strict=True)
        if (coloured or way.kind is not app_variants.VariantKind.CHANNELS)
        and (oblong or way.kind is not app_variants.VariantKind.FIT)
    ]
    before = app_inputs.Compared(
        logits[chosen],
        labels[chosen],
        len(labels),
        settings.config.max_drop,
        settings.resizers,
        context.seed,
    )
    notes = _notes(dataset, coloured, oblong)
    return AppInputs(to_json(app_inputs.report(before, prepared, notes)))


def _chosen(labels: npt.NDArray[np.int64], most: int, seed: int) -> list[int]:
    """Indices of the test images that are taken."""
    _, strata = np.unique(labels.reshape(len(labels), -1), axis=0, return_inverse=True)
    return sorted(splits.draw(strata.reshape(-1).tolist(), most, seed))


def _notes(dataset: Dataset, coloured: bool, oblong: bool) -> list[str]:
    """What was left out or assumed."""
    notes = []
    if not coloured:
        notes.append("All of these images are grey, so the order of the channels means nothing.")
    if not oblong:
        notes.append("All of these images are square, so there is one way to fit them.")
    if dataset.bits > 8:
        notes.append(
            "Images of more than 8 bits are rounded to 8 bits before they are resized, as in an "
            "app that opens a picture."
        )
    return notes
