"""data, inputs, distil, convert, evaluate -> confidence: fitted on the .tflite's answers to val,
judged on test.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Confidence, Dataset, Evaluation, Inputs, LiteModel, Network
from edgekd.core.context import Context
from edgekd.core.records import Record, to_json
from edgekd.data import datasets
from edgekd.evaluation import conformal, label_thresholds
from edgekd.evaluation.confidence_record import OutputKind
from edgekd.pipeline.stage_settings import ConfidenceSettings
from edgekd.tflite.runtime import LiteRunner, tensor_range

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
    body: Record
    if dataset.labels == "many":
        by_label = label_thresholds.fit(codes, labels, dataset.classes, grid)
        judged = label_thresholds.judge(by_label, test_codes, test_labels, grid)
        body = label_thresholds.record(by_label, judged, grid)
    else:
        has_softmax = bool(runner.graph.counts().get("SOFTMAX"))
        kind = OutputKind.PROBABILITIES if has_softmax else OutputKind.LOGITS
        fitted = conformal.fit(
            codes,
            labels,
            grid,
            kind,
            settings.config.coverage,
            answered=dataset.facts.get("labels_by") == "network",
        )
        test = conformal.judge(fitted, test_codes, test_labels, grid)
        body = conformal.record(fitted, test, grid)
    return Confidence(to_json(body), codes.astype(np.int8).tobytes())


def _codes(
    runner: LiteRunner, images: npt.NDArray[np.uint8], context: Context
) -> npt.NDArray[np.signedinteger]:
    """The output codes of images uint8 [n, px, px, c], as [n, k]."""
    found = []
    for start in range(0, len(images), PART):
        found.append(runner.codes(images[start : start + PART]))
        context.progress("confidence", min(start + PART, len(images)), len(images))
    return np.concatenate(found).reshape(len(images), -1)
