"""The waterfall: paired intervals, flips by name, budgets, and the stage that lost accuracy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from edgekd.core.artifacts import Evaluation
from edgekd.evaluation import metrics, stage_verdicts, waterfall
from edgekd.evaluation.accuracy_record import Accuracy, StageRow
from edgekd.settings.recipe import BudgetConfig

N = 600
SCALE = 0.05  # of the file's output tensor
STAGES = ["teacher", "student", "qat", "onnx", "tflite"]
CLASSES = ["cat", "dog"]


def stages(seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A healthy build of two classes: the student is near its teacher, and the rest only rounds."""
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % 2
    teacher = rng.normal(0, 1, (N, 2)).astype(np.float32)
    teacher[np.arange(N), labels] += 3
    student = teacher + rng.normal(0, 0.1, (N, 2)).astype(np.float32)
    grid = (np.rint(student / SCALE) * SCALE).astype(np.float32)
    return labels, {
        "teacher": teacher,
        "student": student,
        "qat": grid,
        "onnx": grid.copy(),
        "tflite": grid.copy(),
    }


def block(labels: np.ndarray, logits: dict[str, np.ndarray], **changes: Any) -> Accuracy:
    stacked = np.stack(list(logits.values())).astype(np.float32)
    evaluation = Evaluation(
        list(logits), stacked.shape[-1], labels.tolist(), stacked.tobytes(), b""
    )
    names = [f"{row}.png" for row in range(len(labels))]
    images = waterfall.Images(names, CLASSES, SCALE)
    return waterfall.accuracy(evaluation, images, BudgetConfig(**changes))


def spoil(
    logits: dict[str, np.ndarray], labels: np.ndarray, stage: str, count: int, by: float = 20.0
) -> None:
    """Turn `count` right answers wrong in one stage and in all after it.

    With `by` 0 the answers stay at the boundary.
    """
    after = list(logits)[list(logits).index(stage) :]
    right = np.flatnonzero(np.all([logits[name].argmax(1) == labels for name in after], axis=0))[
        :count
    ]
    for name in after:
        logits[name][right, 1 - labels[right]] = logits[name][right, labels[right]] + (by or SCALE)


def row(found: Accuracy, stage: str) -> StageRow:
    return next(row for row in found.waterfall if row.stage == stage)


def test_weighted_auc_is_the_auc_of_the_drawn_images() -> None:
    rng = np.random.default_rng(2)
    for classes in (2, 3):
        labels = np.arange(60) % classes
        logits = rng.integers(0, 4, (60, classes)).astype(np.float32)  # many ties
        counts = metrics.resamples(labels, classes, draws=70)
        drawn = [
            metrics.auc(logits[rows], labels[rows])
            for rows in (np.repeat(np.arange(60), c) for c in counts)
        ]
        assert metrics.resampled_auc(logits, labels, counts) == pytest.approx(drawn)


def test_draws_keep_the_size_of_each_class_and_are_seeded() -> None:
    labels = np.array([0] * 30 + [1] * 10 + [2] * 5)
    counts = metrics.resamples(labels, 3, seed=4, draws=50)
    assert {tuple(np.bincount(labels, weights=draw)) for draw in counts} == {(30, 10, 5)}
    assert np.array_equal(counts, metrics.resamples(labels, 3, seed=4, draws=50))
    assert not np.array_equal(counts, metrics.resamples(labels, 3, seed=5, draws=50))


def test_a_paired_interval_covers_the_true_change() -> None:
    """About 95 % of intervals hold the true change of two networks that share most mistakes."""
    rng = np.random.default_rng(1)
    labels, inside = np.arange(400) % 2, []
    for _ in range(150):
        easy = rng.random(400)
        before, after = (np.zeros((400, 2), np.float32) for _ in range(2))
        for logits, share in (
            (before, 0.85),
            (after, 0.80),
        ):  # the second errs wherever the first does, and on 5 % more
            logits[np.arange(400), np.where(easy < share, labels, 1 - labels)] = 1
        low, high = metrics.change(before, after, labels).top1_ci95
        inside.append(low <= -0.05 <= high)
        assert high - low < 0.06  # an unpaired interval of two such shares is 0.105 wide
    assert 0.88 < np.mean(inside) < 0.99


@pytest.mark.parametrize("of_a_class", [1, 3])
def test_an_interval_is_as_wide_where_classes_have_few_images(of_a_class: int) -> None:
    """7 of 120 images are lost: the exact interval of the share is 2.4 to 11.7 %."""
    labels = np.repeat(np.arange(120 // of_a_class), of_a_class)
    before = np.eye(120 // of_a_class, dtype=np.float32)[labels]
    after = before.copy()
    after[:7] = -after[:7]
    low, high = metrics.change(before, after, labels).top1_ci95
    assert -0.13 < low < -0.09
    assert -0.035 < high < -0.01


def test_no_change_has_no_interval() -> None:
    labels, logits = stages()
    found = metrics.change(logits["qat"], logits["onnx"], labels)
    assert (found.top1, found.top1_ci95, found.auc, found.auc_ci95) == (0, (0, 0), 0, (0, 0))
    assert found.top1_p == 1


def test_the_sign_test_counts_every_way() -> None:
    for lost, won in ((4, 0), (3, 1), (5, 5), (0, 0), (2, 7)):
        ways = [sum(way) for way in itertools.product((0, 1), repeat=lost + won)]
        uneven = sum(abs(2 * up - lost - won) >= abs(won - lost) for up in ways) / len(ways)
        assert metrics.sign_test(lost, won) == pytest.approx(uneven)
    assert metrics.sign_test(4, 0) == 0.125
    assert metrics.sign_test(3000, 2000) < 1e-40


def test_divergence_by_hand() -> None:
    reference = np.log(np.array([[0.5, 0.5], [0.9, 0.1]], np.float64)).astype(np.float32)
    answer = np.log(np.array([[0.25, 0.75], [0.9, 0.1]], np.float64)).astype(np.float32)
    expected = 0.5 * np.log(2) + 0.5 * np.log(0.5 / 0.75)
    assert metrics.divergence(answer, reference) == pytest.approx([expected, 0], abs=1e-6)
    assert np.isfinite(
        metrics.divergence(np.array([[0, 500]], np.float32), np.array([[500, 0]], np.float32))
    ).all()


def test_a_healthy_build_blames_nobody() -> None:
    found = block(*stages())
    assert [row.state for row in found.waterfall] == ["first", *["within"] * 4]
    assert found.verdict.state == "good"
    assert found.verdict.stage is None
    assert found.paired.draws == metrics.RESAMPLES


@pytest.mark.parametrize("stage", STAGES[1:])
def test_the_stage_that_lost_is_named(stage: str) -> None:
    labels, logits = stages()
    spoil(logits, labels, stage, 60)
    found = block(labels, logits)
    assert found.verdict.stage == stage
    assert found.verdict.state == "bad"
    assert stage_verdicts.NAMES[stage].split()[-1] in found.verdict.text
    assert "lost 10." in found.verdict.text
    others = [r.state for r in found.waterfall if r.stage not in ("teacher", stage)]
    assert set(others) == {"within"}


def test_the_first_of_two_is_named_and_the_other_noted() -> None:
    labels, logits = stages()
    spoil(logits, labels, "tflite", 40)
    spoil(logits, labels, "qat", 60)
    found = block(labels, logits).verdict
    assert found.stage == "qat"
    assert "TFLite" in found.notes[0]


def test_a_loss_that_may_be_chance_is_said_to_be_so() -> None:
    labels, logits = stages()
    spoil(
        logits, labels, "qat", 4, by=0
    )  # 0.67 points, beyond the half point allowed; four images are too few to tell
    found = block(labels, logits)
    assert row(found, "qat").state == "unclear"
    assert found.verdict.state == "unclear"
    assert "cannot be told from chance" in found.verdict.text
    spoil(logits, labels, "tflite", 40)  # a sure culprit comes first, though later in the line
    assert block(labels, logits).verdict.stage == "tflite"


def test_an_interval_that_covers_zero_is_said_to() -> None:
    labels, logits = stages()
    spoil(logits, labels, "qat", 2)
    assert "which covers zero" in row(block(labels, logits), "qat").verdict


def test_budgets_are_the_recipes() -> None:
    labels, logits = stages()
    spoil(logits, labels, "qat", 60)
    assert block(labels, logits, qat_top1=0.2, qat_auc=0.2).verdict.state == "good"


def test_an_auc_can_be_lost_without_an_answer() -> None:
    """Two scores of three collapse into ties: no argmax changes, the order of images does."""
    labels, logits = stages()
    crushed = np.sign(logits["qat"][:, 1] - logits["qat"][:, 0])
    for stage in ("onnx", "tflite"):
        logits[stage] = np.stack([np.zeros(N), crushed], 1).astype(np.float32)
    found = block(labels, logits)
    assert row(found, "onnx").flips_bad == 0
    assert found.verdict.stage == "onnx"
    assert "AUC" in found.verdict.text


def test_rounding_at_the_boundary_is_no_fault_and_the_same_flips_far_from_it_are() -> None:
    labels, logits = stages()
    for way, margin in (("within", 2), ("beyond", 40)):
        for stage in ("qat", "onnx", "tflite"):
            logits[stage] = logits[stage].copy()
            for image in range(6):
                logits[stage][image] = 0
                logits[stage][image, image % 2 if stage == "qat" else (image + 1) % 2] = (
                    margin * SCALE
                )
        labels[:3], labels[3:6] = (
            np.arange(3) % 2,
            (np.arange(3, 6) + 1) % 2,
        )  # three lost, three won
        found = row(block(labels, logits), "onnx")
        assert (found.flips_bad, found.flips_good) == (3, 3)
        assert found.state == way
        assert found.beyond_rounding == (6 if way == "beyond" else 0)


def test_rounding_has_no_direction() -> None:
    labels, logits = stages()
    for stage in ("qat", "onnx", "tflite"):
        for image in range(8):
            logits[stage][image] = 0
            logits[stage][image, labels[image] if stage == "qat" else 1 - labels[image]] = SCALE
    found = row(block(labels, logits), "onnx")
    assert found.state == "beyond"
    assert "one way" in found.verdict


def test_flipped_images_are_named_the_surest_first() -> None:
    labels, logits = stages()
    spoil(logits, labels, "tflite", 5)
    found = row(block(labels, logits), "tflite")
    bad = found.flipped.bad
    assert {image.name for image in bad} == {
        f"{i}.png"
        for i in np.flatnonzero(
            (logits["onnx"].argmax(1) == labels) & (logits["tflite"].argmax(1) != labels)
        )
    }
    assert all(image.was == image.label != image.now for image in bad)
    assert [image.margin_lsb for image in bad] == sorted(
        (image.margin_lsb for image in bad), reverse=True
    )
    assert found.flipped.good == []


def test_names_are_capped_and_counts_are_not() -> None:
    labels, logits = stages()
    spoil(logits, labels, "qat", 150)
    found = row(block(labels, logits), "qat")
    assert found.flips_bad >= 150
    assert len(found.flipped.bad) == waterfall.NAMED


def test_one_network_alone() -> None:
    labels, logits = stages()
    found = block(labels, {"student": logits["student"]})
    assert found.verdict.state == "good"
    assert "nothing to compare" in found.verdict.text
