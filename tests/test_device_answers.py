"""Results that came back from a device count in the verdict, unless another machine gave them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from edgekd.core.artifacts import Evaluation
from edgekd.core.records import UnsetType, from_json
from edgekd.device.bench_record import Bench
from edgekd.evaluation import waterfall
from edgekd.evaluation.accuracy_record import Accuracy
from edgekd.reporting import device_answers
from edgekd.settings.recipe import BudgetConfig
from tests.sample_report import bench


def healthy_build() -> Accuracy:
    """A student and its int8 file, which answer every image alike and right."""
    labels = np.arange(100) % 2
    logits = np.eye(2, dtype=np.float32)[labels] * 4
    evaluation = Evaluation(
        ["student", "tflite"], 2, labels.tolist(), np.stack([logits, logits]).tobytes(), b""
    )
    images = waterfall.Images([f"{row}.png" for row in range(100)], ["cat", "dog"], 0.05)
    return waterfall.accuracy(evaluation, images, BudgetConfig())


def run(profile: str = "pi4", warnings: tuple[str, ...] = (), **golden: Any) -> Bench:
    """A run whose answers to the golden set differ by little, unless `golden` says otherwise."""
    answers = {"images": 32, "argmax_agreement": 1.0, "max_abs_lsb": 2, "top1": 0.875, **golden}
    body = bench(profile=profile, warnings=list(warnings), golden=answers)
    return from_json(Bench, body, "the sample run")


def test_a_result_carried_back_is_part_of_the_verdict() -> None:
    healthy = healthy_build()
    good = device_answers.carried_back(healthy, [run()], "pi4")
    assert good.device.state == "within"
    assert good.verdict.state == "good"
    wrong = run(argmax_agreement=0.75, max_abs_lsb=90)
    bad = device_answers.carried_back(healthy, [run(), wrong], "pi4")
    assert bad.verdict.stage == "device"
    assert "8 of 32" in bad.verdict.text
    rounded = device_answers.carried_back(
        healthy, [run(argmax_agreement=31 / 32, max_abs_lsb=3)], "pi4"
    )
    assert rounded.verdict.state == "good"


def test_a_run_on_another_machine_is_not_the_device() -> None:
    healthy = healthy_build()
    elsewhere = run(warnings=("measured on X, which is not a Pi: these are not the times of pi4",))
    for other in (run(profile="host"), elsewhere, msgspec.structs.replace(run(), golden=None)):
        assert isinstance(device_answers.carried_back(healthy, [other], "pi4").device, UnsetType)
