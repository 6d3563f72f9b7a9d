"""The accuracy of each number format's file, beside that of the certified int8 file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from edgekd.core.artifacts import Blob, Evaluation, Formats, LiteModel, sha256
from edgekd.core.intervals import wilson
from edgekd.core.number_formats import NumberFormat, file_name
from edgekd.evaluation import metrics
from edgekd.evaluation.accuracy_record import FailedFormat, FormatRow
from edgekd.tflite import runtime


@dataclasses.dataclass(frozen=True)
class Answered:
    """One file. `logits`: its answers, float32 [n, k], to the test images `rows`."""

    format: NumberFormat
    data: Blob
    logits: np.ndarray
    rows: Sequence[int]


def rows(evaluation: Evaluation, int8: LiteModel, formats: Formats, seed: int) -> list[FormatRow]:
    """A row for each file, int8 first. The float student is the pruned one where there is one."""
    labels = np.asarray(evaluation.labels)
    shape = (len(evaluation.stages), len(labels), -1)
    logits = np.frombuffer(evaluation.logits, np.float32).reshape(shape)
    by_stage = dict(zip(evaluation.stages, logits, strict=True))
    reference = by_stage.get("pruned", by_stage["student"])
    whole = range(len(labels))
    files = [Answered(NumberFormat.INT8, int8.tflite, by_stage["tflite"], whole)]
    return [_row(one, reference, labels, seed) for one in [*files, *answered(formats, evaluation)]]


def answered(formats: Formats, evaluation: Evaluation) -> list[Answered]:
    """The files that could be made, with their answers."""
    logits = np.frombuffer(formats.logits, np.float32).reshape(-1, evaluation.classes)
    images = {NumberFormat(row["format"]): row["images"] for row in formats.rows}
    found, start = [], 0
    for made, data in made_files(formats).items():
        end = start + len(images[made])
        found.append(Answered(made, data, logits[start:end], images[made]))
        start = end
    return found


def made_files(formats: Formats) -> dict[NumberFormat, Blob]:
    """The file of each format that could be made."""
    return {
        NumberFormat(row["format"]): getattr(formats, row["format"])
        for row in formats.rows
        if not row["message"]
    }


def failed(formats: Formats) -> list[FailedFormat]:
    """The formats that could not be made, with the library's message."""
    return [
        FailedFormat(NumberFormat(row["format"]), row["message"])
        for row in formats.rows
        if row["message"]
    ]


def _row(one: Answered, reference: np.ndarray, labels: np.ndarray, seed: int) -> FormatRow:
    chosen = np.asarray(one.rows)
    truth, before = labels[chosen], reference[chosen]
    figures = metrics.evaluate(one.logits, truth)
    agree = metrics.flips(before, one.logits, truth).agree_with_previous
    facts = runtime.describe(one.data)
    return FormatRow(
        format=one.format,
        n=len(chosen),
        top1=figures.top1,
        top1_ci95=figures.top1_ci95,
        auc=figures.auc,
        auc_ci95=figures.auc_ci95,
        agree_with_float=agree,
        # Over images, also where an image has several labels: these depend on each other.
        agree_ci95=wilson(agree, len(chosen)),
        change=metrics.change(before, one.logits, truth, seed),
        path=file_name(one.format),
        sha256=sha256(one.data),
        bytes=len(one.data),
        input=facts["input"]["dtype"],
        output=facts["output"]["dtype"],
    )
