"""data, inputs, distil, convert, evaluate -> confidence: fitted on the .tflite's answers to val, judged on test."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Confidence, Dataset, Evaluation, Inputs, LiteModel, Network
from edgekd.core.context import Context
from edgekd.data import datasets
from edgekd.evaluation import conformal, label_thresholds
from edgekd.pipeline.stage_settings import ConfidenceSettings
from edgekd.tflite.runtime import LiteRunner, tensor_range

SCHEMA = "edgekd.confidence/1"
PART = 256  # images between two reports of progress


def run(
    dataset: Dataset,
    inputs: Inputs,
    student: Network,
    model: LiteModel,
    evaluation: Evaluation,
    *,
    settings: ConfidenceSettings,
    context: Context,
) -> Confidence:
    """Fit temperature and thresholds, or a sigmoid and a threshold for each of several labels.

    Only the validation images run here: the evaluation holds the answers to the test images.
    """
    runner = LiteRunner(model.tflite)
    images = datasets.input_images(inputs, "val", len(student.mean))
    labels = datasets.labels(dataset, "val")
    test_labels = np.asarray(evaluation.labels)
    codes = _codes(runner, images, context)
    test_codes = np.frombuffer(evaluation.codes, np.int8).reshape(-1, evaluation.classes)
    grid = tensor_range(runner.output)
    if dataset.labels == "many":
        fitted: Any = label_thresholds.fit(codes, labels, dataset.classes, grid)
        judged: Any = label_thresholds.judge(fitted, test_codes, test_labels, grid)
    else:
        has_softmax = bool(runner.graph.counts().get("SOFTMAX"))
        kind: conformal.Kind = "probabilities" if has_softmax else "logits"
        fitted = conformal.fit(codes, labels, grid, kind, settings.config.coverage)
        judged = conformal.judge(fitted, test_codes, test_labels, grid)
    output = {"scale": grid.scale, "zero_point": grid.zero_point}
    body = {"schema": SCHEMA, "output": output, **fitted, "test": judged}
    return Confidence(body, codes.astype(np.int8).tobytes())


def _codes(
    runner: LiteRunner, images: npt.NDArray[np.uint8], context: Context
) -> npt.NDArray[np.signedinteger]:
    """The output codes of images uint8 [n, px, px, c], as [n, k]."""
    found = []
    for start in range(0, len(images), PART):
        found.append(runner.codes(images[start : start + PART]))
        context.progress("confidence", min(start + PART, len(images)), len(images))
    return np.concatenate(found).reshape(len(images), -1)
