"""Accuracy figures against closed forms and hand-counted cases."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.core.intervals import wilson
from edgekd.evaluation import metrics
from edgekd.evaluation.accuracy_record import Flips


def test_auc_by_hand_and_by_pairs() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, 60).astype(float)  # many ties
    positive = rng.random(60) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    assert metrics.binary_auc(scores, positive) == pytest.approx(np.mean(pairs))


def test_auc_ends() -> None:
    logits = np.array([[2, 0], [1, 0], [0, 1], [0, 2]], np.float32)
    assert metrics.auc(logits, np.array([0, 0, 1, 1])) == 1.0
    assert metrics.auc(logits, np.array([1, 1, 0, 0])) == 0.0
    assert metrics.auc(np.zeros((4, 2), np.float32), np.array([0, 0, 1, 1])) == 0.5
    assert metrics.auc(logits, np.array([0, 0, 0, 0])) is None


def test_auc_does_not_saturate() -> None:
    """Logits so large that float probabilities are all 1.0 still rank."""
    logits = np.array([[0, 50], [0, 60], [0, 70], [0, 80]], np.float32)
    assert metrics.auc(logits, np.array([0, 0, 1, 1])) == 1.0


def test_many_classes() -> None:
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    assert metrics.auc(logits, np.array([0, 1, 2, 0, 1, 2])) == 1.0


def test_wilson_holds_its_promise() -> None:
    """Of many samples, about 95 % of intervals hold the true share."""
    rng = np.random.default_rng(0)
    for share, n in ((0.9, 100), (0.5, 624)):
        hits = rng.binomial(n, share, 4000)
        inside = [low <= share <= high for low, high in (wilson(h / n, n) for h in hits)]
        assert 0.93 < np.mean(inside) < 0.97


def test_auc_interval_covers() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 100)
    score = rng.normal(labels * 1.5, 1)
    logits = np.stack([np.zeros(200), score], 1).astype(np.float32)
    low, high = metrics.auc_interval(logits, labels)  # type: ignore[misc]
    assert low < metrics.auc(logits, labels) < high  # type: ignore[operator]
    assert 0.05 < high - low < 0.2


def test_confusion_and_flips() -> None:
    labels = np.array([0, 0, 1, 1])
    before = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.float32)
    after = np.array([[1, 0], [0, 1], [0, 1], [0, 1]], np.float32)
    assert metrics.confusion(after, labels).tolist() == [[1, 1], [0, 2]]
    assert metrics.flips(before, after, labels) == Flips(
        agree_with_previous=0.5, flips_bad=1, flips_good=1
    )
