"""Confidence of int8 answers: temperature, calibration error, and conformal coverage."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.evaluation import conformal
from edgekd.evaluation.confidence_record import OutputKind
from edgekd.evaluation.metrics import probabilities
from edgekd.tflite.int8_rules import Range

GRID = Range(0.05, -20)


def drawn(
    n: int, classes: int, temperature: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True logits, labels drawn from their softmax, and int8 codes of overconfident logits.

    The codes' logits are `temperature` times the true ones.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.2, (n, classes))
    p = probabilities(logits)
    labels = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    return logits, labels, GRID.quantize(logits * temperature - 0.5)


@pytest.mark.parametrize("true", [0.5, 1.0, 2.0, 3.0])
def test_temperature_is_found_through_int8(true: float) -> None:
    _, labels, codes = drawn(20_000, 4, true)
    found = conformal.fit_temperature(conformal.scores(codes, GRID, OutputKind.LOGITS), labels)
    assert found == pytest.approx(true, rel=0.06)


def test_calibration_error_by_hand() -> None:
    """Two bins: 3 images at 0.9 of which 2 are right, 1 image at 0.55 that is right."""
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.55, 0.45]])
    labels = np.array([0, 1, 1, 0])
    assert conformal.calibration_error(p, labels) == pytest.approx(
        0.75 * (0.9 - 2 / 3) + 0.25 * (1 - 0.55)
    )


def test_calibration_error_falls() -> None:
    _, labels, codes = drawn(4000, 3, 2.5)
    fitted = conformal.fit(codes[:2000], labels[:2000], GRID, OutputKind.LOGITS, 0.9)
    judged = conformal.judge(fitted, codes[2000:], labels[2000:], GRID)
    assert judged.ece.after < judged.ece.before / 2
    assert judged.nll.after < judged.nll.before


def test_the_floor_of_the_error() -> None:
    """Calibrated probabilities show about the floor, which falls with the root of the images."""
    few, many = (drawn(n, 3, 1.0, seed=3) for n in (300, 30_000))
    floors = [conformal.calibration_floor(probabilities(part[0])) for part in (few, many)]
    assert floors[0] / floors[1] == pytest.approx(10, rel=0.3)
    assert conformal.calibration_error(probabilities(few[0]), few[1]) == pytest.approx(
        floors[0], rel=0.6
    )


def test_threshold_by_hand() -> None:
    """n = 9, coverage 0.8: the floor(10 * 0.2) = second smallest p(label)."""
    p = np.stack([np.linspace(0.1, 0.9, 9), 1 - np.linspace(0.1, 0.9, 9)], 1)
    labels = np.zeros(9, int)
    assert conformal.conformal_threshold(p, labels, 0.8) == pytest.approx(0.2, abs=1e-4)
    assert (
        conformal.conformal_threshold(p, labels, 0.95) == 0.0
    )  # 9 images cannot promise that: every label


def test_coverage_over_splits() -> None:
    """Over 40 random splits the mean coverage is as promised in each class, in spite of int8."""
    _, labels, codes = drawn(2000, 3, 2.0)
    held, by_class = [], []
    for seed in range(40):
        order = np.random.default_rng(seed).permutation(2000)
        fitted = conformal.fit(
            codes[order[:1000]], labels[order[:1000]], GRID, OutputKind.LOGITS, 0.9
        )
        judged = conformal.judge(fitted, codes[order[1000:]], labels[order[1000:]], GRID)
        held.append(judged.coverage)
        by_class.append([row.coverage for row in judged.coverage_by_class])
    assert 0.895 < float(np.mean(held)) < 0.92
    assert min(held) > 0.86
    assert ((np.mean(by_class, 0) > 0.89) & (np.mean(by_class, 0) < 0.93)).all()


def test_a_rare_class_shares_the_threshold_of_all() -> None:
    rng = np.random.default_rng(0)
    p = np.stack([rng.uniform(0, 1, 400)] * 2, 1)
    labels = np.where(np.arange(400) < conformal.OWN_THRESHOLD - 1, 1, 0)
    own, rare = conformal.conformal_thresholds(p, labels, 0.9, 2)
    assert rare == conformal.conformal_threshold(p, labels, 0.9)
    assert own == conformal.conformal_threshold(p[labels == 0], labels[labels == 0], 0.9) != rare


def test_chance_is_taken_out_of_the_error() -> None:
    """Calibrated: well under the plain error. Miscalibrated with many images: hardly changed."""
    logits, labels, _ = drawn(400, 3, 1.0, seed=5)
    right = probabilities(logits)
    assert conformal.debiased_error(right, labels) < 0.75 * conformal.calibration_error(
        right, labels
    )
    logits, labels, _ = drawn(40_000, 3, 1.0, seed=6)
    wrong = probabilities(logits * 2)
    assert conformal.debiased_error(wrong, labels) == pytest.approx(
        conformal.calibration_error(wrong, labels), rel=0.02
    )


def test_unsure_is_none_or_several() -> None:
    sets = np.array([[True, False], [True, True], [False, False]])
    assert conformal.sure(sets).tolist() == [True, False, False]


def test_sure_answers_are_better() -> None:
    _, labels, codes = drawn(4000, 3, 1.0)
    fitted = conformal.fit(codes[:2000], labels[:2000], GRID, OutputKind.LOGITS, 0.9)
    judged = conformal.judge(fitted, codes[2000:], labels[2000:], GRID)
    assert 0 < judged.unsure < 1
    assert judged.accuracy_when_sure > judged.accuracy + 0.05


def test_sigmoid_keeps_the_order() -> None:
    logits, labels, _ = drawn(3000, 4, 1.0)
    slope, offset = conformal.fit_sigmoid(logits, labels)
    assert slope > 0
    p = 1 / (1 + np.exp(-(slope * logits + offset)))
    assert np.array_equal(p.argmax(1), logits.argmax(1))
    assert float(p.mean()) == pytest.approx(
        0.25, abs=0.01
    )  # what it says on average is how often a label holds
    assert (
        conformal.fit_sigmoid(logits, (labels + 1) % 4)[0] > 0
    )  # a network worse than chance is not turned round


def test_probabilities_as_output() -> None:
    """For a file that ends in SOFTMAX: log p in place of logits, and no code is minus infinity."""
    codes = np.array([[-128, 127, -127]], np.int8)
    found = conformal.scores(codes, Range(1 / 256, -128), OutputKind.PROBABILITIES)
    assert np.isfinite(found).all()
    assert found[0, 1] == pytest.approx(np.log(255 / 256))
