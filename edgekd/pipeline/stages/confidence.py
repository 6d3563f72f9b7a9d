"""data, inputs, distil, convert, evaluate -> confidence: fitted on the file's own answers to val, judged on test."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekd.core.artifacts import Confidence, Dataset, Evaluation, Inputs, LiteModel, Network
from edgekd.core.context import Context
from edgekd.data import datasets
from edgekd.evaluation import conformal, label_thresholds
from edgekd.settings.recipe import ConfidenceConfig
from edgekd.tflite.int8_rules import Range
from edgekd.tflite.runtime import LiteRunner, tensor_range

SCHEMA = "edgekd.confidence/1"
PART = 256  # images between two words of progress


def run(
    dataset: Dataset,
    inputs: Inputs,
    student: Network,
    model: LiteModel,
    evaluation: Evaluation,
    *,
    config: ConfidenceConfig,
    context: Context,
) -> Confidence:
    """The test split's answers are the evaluation's; only the validation images run here."""
    images, labels = (
        datasets.input_images(inputs, "val", len(student.mean)),
        datasets.labels(dataset, "val"),
    )
    runner = LiteRunner(model.tflite)
    answers = []
    for start in range(0, len(images), PART):
        answers.append(runner.codes(images[start : start + PART]))
        context.progress("confidence", min(start + PART, len(images)), len(images))
    grid = tensor_range(runner.output)
    if dataset.labels == "many":
        codes, test = (
            np.concatenate(answers).reshape(len(images), -1),
            np.frombuffer(evaluation.codes, np.int8),
        )
        fitted = label_thresholds.fit(codes, labels, dataset.classes, grid)
        judged = label_thresholds.judge(
            fitted, test.reshape(-1, evaluation.classes), np.asarray(evaluation.labels), grid
        )
        return _made(fitted, judged, grid, codes)
    kind: conformal.Kind = "probabilities" if runner.graph.counts().get("SOFTMAX") else "logits"
    codes = np.concatenate(answers).reshape(len(images), -1)
    fitted = conformal.fit(codes, labels, grid, kind, config.coverage)
    test_codes = np.frombuffer(evaluation.codes, np.int8).reshape(-1, evaluation.classes)
    judged = conformal.judge(fitted, test_codes, np.asarray(evaluation.labels), grid)
    return _made(fitted, judged, grid, codes)


def _made(
    fitted: dict[str, Any], judged: dict[str, Any], grid: Range, codes: np.ndarray
) -> Confidence:
    return Confidence(
        {
            "schema": SCHEMA,
            "output": {"scale": grid.scale, "zero_point": grid.zero_point},
            **fitted,
            "test": judged,
        },
        codes.astype(np.int8).tobytes(),
    )
