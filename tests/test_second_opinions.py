"""scikit-learn and SciPy give the same figures as edgekd.evaluation, on random data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy

from edgekd.core.intervals import wilson
from edgekd.evaluation import conformal, label_thresholds, metrics, occlusion
from edgekd.evaluation.conformal import BINS
from edgekd.reporting.comparison import difference
from edgekd.tflite.int8_rules import Range
from tests.lazy import lazy

sklearn = lazy("sklearn")  # 1 s

SEEDS = range(5)
GRID = Range(0.1, 0)


def drawn(seed: int, classes: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [n, k] that know something of the labels int64 [n]; some logits are tied."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(0, 1, (n, classes)) + 1.2 * np.eye(classes)[labels]
    return logits.round(1).astype(np.float32), labels


def several(seed: int, n: int = 300, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """The same for several labels an image: labels 0 or 1, int64 [n, k]."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, k)) < [0.2, 0.5, 0.7]).astype(np.int64)
    return (rng.normal(0, 1, (n, k)) + labels).round(1).astype(np.float32), labels


@pytest.mark.parametrize("seed", SEEDS)
def test_probabilities_and_auc(seed: int) -> None:
    for classes in (2, 4):
        logits, labels = drawn(seed, classes)
        p = metrics.probabilities(logits)
        assert p == pytest.approx(scipy.special.softmax(logits.astype(np.float64), axis=1))
        expected = (
            sklearn.metrics.roc_auc_score(labels, np.diff(logits.astype(np.float64))[:, 0])
            if classes == 2
            else sklearn.metrics.roc_auc_score(labels, p, multi_class="ovr")
        )
        assert metrics.auc(logits, labels) == pytest.approx(expected)
    logits, labels = several(seed)
    assert metrics.sigmoid(logits) == pytest.approx(scipy.special.expit(logits.astype(float)))
    assert metrics.auc(logits, labels) == pytest.approx(
        sklearn.metrics.roc_auc_score(labels, logits, average="macro")
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_accuracy_confusion_and_recall(seed: int) -> None:
    logits, labels = drawn(seed, 4)
    said = logits.argmax(1)
    assert metrics.top1(logits, labels) == sklearn.metrics.accuracy_score(labels, said)
    counts = metrics.confusion(logits, labels)
    assert np.array_equal(counts, sklearn.metrics.confusion_matrix(labels, said))
    logits, labels = several(seed)
    rows = metrics.evaluate(logits, labels).per_label
    assert isinstance(rows, list)
    for k, row in enumerate(rows):
        said = logits[:, k] >= 0
        assert row.sensitivity == pytest.approx(sklearn.metrics.recall_score(labels[:, k], said))
        assert row.specificity == pytest.approx(
            sklearn.metrics.recall_score(labels[:, k], said, pos_label=0)
        )
        assert row.auc == pytest.approx(sklearn.metrics.roc_auc_score(labels[:, k], logits[:, k]))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_interval_of_a_share(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for n in (1, 20, 624, 10_000):
        hits = int(rng.integers(0, n + 1))
        expected = scipy.stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
        assert wilson(hits / n, n) == pytest.approx(tuple(expected), abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_mcnemar(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for most in (4, 40, 400):
        lost, won = (int(count) for count in rng.integers(0, most, 2))
        expected = scipy.stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
        assert metrics.sign_test(lost, won) == pytest.approx(expected)


def test_bootstrap_intervals() -> None:
    """SciPy's percentile bootstrap of the same statistics. Both are random, so nearly the same."""
    before, labels = drawn(1, 2, 400)
    after = before + np.random.default_rng(2).normal(0, 0.5, before.shape).astype(np.float32)
    change = metrics.change(before, after, labels)
    step = metrics.right(after, labels).astype(float) - metrics.right(before, labels)

    def interval(data: tuple[np.ndarray, ...], statistic: object) -> tuple[float, float]:
        found = scipy.stats.bootstrap(
            data, statistic, method="percentile", n_resamples=4000, random_state=0
        )
        return tuple(found.confidence_interval)

    # Drawing within each class: two samples, of which the means are weighed by their sizes.
    share = labels.mean()
    by_class = (step[labels == 0], step[labels == 1])
    expected = interval(
        by_class, lambda a, b, axis: (1 - share) * a.mean(axis) + share * b.mean(axis)
    )
    assert change.top1_ci95 == pytest.approx(expected, abs=0.006)
    score = before[:, 1] - before[:, 0]
    area = interval(
        (score[labels == 1], score[labels == 0]),
        lambda a, b, axis: (
            ((a[..., :, None] > b[..., None, :]) + 0.0).mean((-1, -2))
            + 0.5 * (a[..., :, None] == b[..., None, :]).mean((-1, -2))
        ),
    )
    assert metrics.auc_interval(before, labels) == pytest.approx(area, abs=0.006)


@pytest.mark.parametrize("seed", SEEDS)
def test_divergence_and_log_odds(seed: int) -> None:
    one, other = drawn(seed, 4)[0], drawn(seed + 100, 4)[0]
    p, q = (scipy.special.softmax(part.astype(float), axis=1) for part in (other, one))
    assert metrics.divergence(one, other) == pytest.approx(scipy.stats.entropy(p, q, axis=1))
    for label in range(4):
        expected = scipy.special.logit(q[:, label])
        assert occlusion.log_odds(one.astype(float), label) == pytest.approx(expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_likelihood_and_temperature(seed: int) -> None:
    logits, labels = drawn(seed, 4, 1000)
    logits = 2.5 * logits.astype(np.float64)

    def loss(temperature: float) -> float:
        p = scipy.special.softmax(logits / temperature, axis=1)
        return sklearn.metrics.log_loss(labels, p)

    assert conformal.negative_log_likelihood(logits, labels) == pytest.approx(loss(1.0))
    best = scipy.optimize.minimize_scalar(
        lambda log: loss(math.exp(log)), bounds=(-3, 3), method="bounded", options={"xatol": 1e-8}
    )
    assert conformal.fit_temperature(logits, labels) == pytest.approx(math.exp(best.x), rel=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_reliability_and_calibration_error(seed: int) -> None:
    """scikit-learn's curve of one class, with its bins weighed by how many images they hold."""
    logits, labels = several(seed, 2000, 1)
    p = metrics.sigmoid(3 * logits)[:, 0]
    top, right = np.maximum(p, 1 - p), ((p > 0.5) == labels[:, 0]).astype(int)
    true, predicted = sklearn.calibration.calibration_curve(right, top, n_bins=BINS)
    pair = np.stack([1 - p, p], 1)
    rows = conformal.reliability(pair, labels[:, 0])
    assert [row.accuracy for row in rows] == pytest.approx(true)
    assert [row.confidence for row in rows] == pytest.approx(predicted)
    edges = np.linspace(0, 1, BINS + 1)
    share = np.histogram(top, edges)[0]
    expected = (share[share > 0] / len(top) * np.abs(true - predicted)).sum()
    assert conformal.calibration_error(pair, labels[:, 0]) == pytest.approx(expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_sigmoid_of_a_score(seed: int) -> None:
    """Platt's sigmoid is a logistic regression; ours has a weak prior, which moves it little."""
    logits, labels = several(seed, 2000, 1)
    x, y = logits[:, 0].astype(np.float64), labels[:, 0].astype(np.float64)
    fitted = sklearn.linear_model.LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], y)
    slope, offset = conformal.platt(x, y)
    assert slope == pytest.approx(fitted.coef_[0, 0], rel=0.02)
    assert offset == pytest.approx(fitted.intercept_[0], abs=0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_threshold_of_a_label(seed: int) -> None:
    """Youden's index is the largest height of the ROC curve above its diagonal."""
    logits, labels = several(seed, 500, 1)
    codes = GRID.quantize(logits[:, 0])
    cut = label_thresholds.youden(codes, labels[:, 0])
    false, true, _ = sklearn.metrics.roc_curve(labels[:, 0], codes, drop_intermediate=False)
    said = codes >= cut
    has = labels[:, 0] == 1
    assert said[has].mean() - said[~has].mean() == pytest.approx((true - false).max())


@pytest.mark.parametrize("seed", SEEDS)
def test_conformal_thresholds(seed: int) -> None:
    """The threshold is an order statistic of the labels' probabilities."""
    logits, labels = drawn(seed, 3, 500)
    p = metrics.probabilities(logits)
    own = p[np.arange(len(labels)), labels]
    for coverage in (0.8, 0.9, 0.95):
        rank = math.floor((len(own) + 1) * (1 - coverage) + 1e-9)
        expected = scipy.stats.quantile(own, rank / len(own), method="inverted_cdf")
        found = conformal.conformal_threshold(p, labels, coverage)
        assert found + conformal.MARGIN == pytest.approx(expected)


def test_newcombes_difference() -> None:
    """Method 10 by its formula, from SciPy's intervals of both shares."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        n, m = (int(size) for size in rng.integers(20, 500, 2))
        a, b = int(rng.integers(1, n)), int(rng.integers(1, m))
        (l1, u1), (l2, u2) = (
            scipy.stats.binomtest(hits, size).proportion_ci(0.95, method="wilson")
            for hits, size in ((a, n), (b, m))
        )
        found = difference(a / n, wilson(a / n, n), b / m, wilson(b / m, m))
        gap = b / m - a / n
        low = gap - math.sqrt((b / m - l2) ** 2 + (u1 - a / n) ** 2)
        high = gap + math.sqrt((u2 - b / m) ** 2 + (a / n - l1) ** 2)
        assert found is not None
        assert found.ci95 == pytest.approx((low, high), abs=1e-6)
