"""data, inputs, float student, qat, convert -> formats: the student in number formats other than
int8.

A format that a library cannot make, or that the runtime refuses, is reported with the message, and
the others are made all the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekd.core.artifact_rows import FormatRow
from edgekd.core.artifacts import (
    Dataset,
    Formats,
    Inputs,
    LiteModel,
    Network,
    QuantNetwork,
)
from edgekd.core.context import Context
from edgekd.core.errors import EdgeKDError, UnsupportedNetwork
from edgekd.core.frames import Frame
from edgekd.core.number_formats import NumberFormat
from edgekd.data import datasets
from edgekd.export import mixed_precision
from edgekd.export.float_conversion import derived_file, float32_file
from edgekd.export.float_network import float_onnx, rounded_onnx
from edgekd.networks import builders
from edgekd.networks.inference import logits_of
from edgekd.pipeline.stage_settings import FormatsSettings
from edgekd.tflite import real_runner
from edgekd.tflite.int8_rules import Int8Rules

# Calibration images that int16x8's ranges are read from. They have a margin (INT16_MARGIN), so few
# images do.
CALIBRATION = 32
# LiteRT has no fast int16 kernels: on one x86 core they took 0.7 s for 10^9 multiply-adds
# (docs/measured/formats.md). Of a large network int16x8 answers fewer test images, so that this
# takes about a minute, but at least so many.
INT16_MACS, INT16_LEAST = 100e9, 64

# Validation images that decide how many operators of "mixed" are in float32.
JUDGED = 128
BATCH = 16  # images of a forward pass of the float network

# Formats with int8 weights. The weights that calibration made for int8 lose less in them than the
# network's own, which the library rounds as they are (docs/measured/formats.md).
ROUNDED = frozenset({NumberFormat.DYNAMIC, NumberFormat.INT16X8})

Answers = npt.NDArray[np.float32]


def run(
    dataset: Dataset,
    inputs: Inputs,
    distilled: Network,
    pruned: Network | None,
    qat: QuantNetwork,
    model: LiteModel,
    *,
    settings: FormatsSettings,
    context: Context,
) -> Formats:
    """Make each format's file, and let it answer the test images.

    A pruned student takes the place of the distilled one.
    """
    student = distilled if pruned is None else pruned
    files, messages = _files(student, qat, dataset, inputs, settings)
    if NumberFormat.MIXED in settings.formats:
        try:
            files[NumberFormat.MIXED] = _mixed(student, qat, model, dataset, inputs, context)
        except EdgeKDError as error:
            messages[NumberFormat.MIXED] = error.what
    rows: list[FormatRow] = []
    answers: list[Answers] = []
    test = datasets.network_images(inputs, "test", len(student.mean))
    for wanted in settings.formats:
        chosen = _answered(wanted, student, len(test), context.seed)
        if wanted in files:
            try:
                answers.append(_answers(files[wanted], wanted, test[chosen], student, context))
            except EdgeKDError as error:
                messages[wanted] = error.what
        message = messages.get(wanted, "")
        row: FormatRow = {
            "format": wanted.value,
            "message": message,
            "images": [] if message else chosen.tolist(),
        }
        rows.append(row)
    made = {
        one.value: b"" if one in messages else files.get(one, b"")
        for one in NumberFormat
        if one is not NumberFormat.INT8
    }
    return Formats(rows=rows, logits=b"".join(part.tobytes() for part in answers), **made)


def _files(
    student: Network,
    qat: QuantNetwork,
    dataset: Dataset,
    inputs: Inputs,
    settings: FormatsSettings,
) -> tuple[dict[NumberFormat, bytes], dict[NumberFormat, str]]:
    """The file of each format, and the message of each that could not be made."""
    by_library = [one for one in settings.formats if one is not NumberFormat.MIXED]
    if not by_library:
        return {}, {}
    rules = dict(settings.rules)
    if dataset.labels == "many":
        rules["softmax"] = "none"  # as in the int8 file: each label has a logit of its own
    try:
        plain = Int8Rules.from_dict(rules)
        float32 = float32_file(float_onnx(student, plain))
    except UnsupportedNetwork as error:  # the others are made from it
        return {}, dict.fromkeys(by_library, error.what)
    shown = datasets.network_images(inputs, "calibration", len(student.mean))[:CALIBRATION]
    calibration = real_runner.normalised(shown, student.mean, student.std)
    files: dict[NumberFormat, bytes] = {}
    messages: dict[NumberFormat, str] = {}
    rounded = b""
    for wanted in by_library:
        try:
            if wanted is NumberFormat.FLOAT32:
                files[wanted] = float32
            elif wanted in ROUNDED and not qat.history:  # calibrated, and not trained
                given = datasets.input_images(inputs, "calibration", len(student.mean))
                rounded = rounded or float32_file(rounded_onnx(student, plain, qat, given))
                files[wanted] = derived_file(wanted, rounded, calibration)
            else:
                files[wanted] = derived_file(wanted, float32, calibration)
        except EdgeKDError as error:
            messages[wanted] = error.what
    return files, messages


def _mixed(
    student: Network,
    qat: QuantNetwork,
    model: LiteModel,
    dataset: Dataset,
    inputs: Inputs,
    context: Context,
) -> bytes:
    """The int8 file with its costliest operators in float32."""
    if Frame.of(inputs.frame, inputs.px) is not None:
        raise UnsupportedNetwork(
            "the int8 file reduces frames itself (ports.resize)", "leave mixed out"
        )
    channels = len(student.mean)
    judged = datasets.input_images(inputs, "val", channels)[:JUDGED]
    net = builders.restore(student)
    normalised = (
        builders.normalised(judged[start : start + BATCH], student.mean, student.std)
        for start in range(0, len(judged), BATCH)
    )
    return mixed_precision.mixed_file(
        qat,
        model,
        datasets.input_images(inputs, "calibration", channels),
        mixed_precision.Judged(judged, logits_of(net, normalised), dataset.labels),
        student.facts["macs"],
        lambda done, total: context.progress("formats: operators for mixed", done, total),
    )


def _answered(
    wanted: NumberFormat, student: Network, count: int, seed: int
) -> npt.NDArray[np.int64]:
    """Indices of the test images that a format answers, in their order."""
    everything = np.arange(count)
    if wanted is not NumberFormat.INT16X8:
        return everything
    affordable = max(INT16_LEAST, int(INT16_MACS / max(student.facts["macs"], 1)))
    return np.sort(np.random.default_rng(seed).permutation(everything)[:affordable])


def _answers(
    data: bytes,
    wanted: NumberFormat,
    images: npt.NDArray[np.uint8],
    student: Network,
    context: Context,
) -> Answers:
    return real_runner.answers(
        data,
        images,
        student.mean,
        student.std,
        lambda done: context.progress(f"formats: {wanted}", done, len(images)),
    )
