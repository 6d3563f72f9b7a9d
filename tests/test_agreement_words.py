"""Without labels a report speaks of agreement with the float network, and never of accuracy."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np

from edgekd.core.artifacts import Evaluation
from edgekd.core.records import present
from edgekd.evaluation import conformal, waterfall
from edgekd.evaluation.accuracy_record import Accuracy, Metric
from edgekd.evaluation.confidence_record import OutputKind
from edgekd.reporting import build_gates
from edgekd.reporting.html_report import page
from edgekd.reporting.report_record import Report
from edgekd.settings.recipe import BudgetConfig, CertifyConfig
from edgekd.tflite.runtime import Range
from tests.sample_report import report, whole

IMAGES, CLASSES = 200, ["a", "b", "c"]


def accuracy(*, answered: bool) -> Accuracy:
    """A float student that is right by definition, and an int8 file that differs for a tenth."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(IMAGES, len(CLASSES))).astype(np.float32)
    changed = logits.copy()
    changed[:20] = np.roll(changed[:20], 1, axis=1)
    evaluation = Evaluation(
        stages=["student", "tflite"],
        classes=len(CLASSES),
        labels=logits.argmax(1).tolist(),
        logits=np.stack([logits, changed]).tobytes(),
        codes=b"",
    )
    images = waterfall.Images(
        [f"{row}.png" for row in range(IMAGES)], CLASSES, 0.05, answered=answered
    )
    return waterfall.accuracy(evaluation, images, BudgetConfig())


def converted() -> Report:
    """A report of a network that was given, on images without labels."""
    made = report(whole())
    student = msgspec.structs.replace(made.models["student"], digest="0" * 64, weights="my.onnx")
    return msgspec.structs.replace(
        made, accuracy=accuracy(answered=True), models={"student": student}
    )


def test_the_report_says_agreement() -> None:
    made = converted()
    assert present(made.accuracy).metric is Metric.AGREEMENT
    text = page(made, [])
    assert "Agreement with the float network" in text
    assert "converted from my.onnx" in text
    assert "Agreement over budget" in text
    assert "Accuracy, stage by stage" not in text


def test_a_gate_that_fails_advises_what_convert_can_do() -> None:
    limits = dataclasses.replace(CertifyConfig(), max_drop=0.01)
    failed = "\n".join(build_gates.judge(converted(), limits, 0).failed)
    assert "int8 answers 10.0% of the images otherwise than the float network" in failed
    assert "--qat 3" in failed
    assert "qat.epochs" not in failed


def test_answers_that_stand_for_labels_fit_no_temperature() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(-128, 128, (64, 3)).astype(np.int8)
    labels, grid = codes.argmax(1), Range(0.02, 0)
    sure = conformal.fit(codes, labels, grid, OutputKind.LOGITS, 0.9)
    kept = conformal.fit(codes, labels, grid, OutputKind.LOGITS, 0.9, answered=True)
    assert sure.temperature < 0.1  # every answer would look certain
    assert kept.temperature == 1.0
    assert kept.sigmoid.slope < sure.sigmoid.slope
