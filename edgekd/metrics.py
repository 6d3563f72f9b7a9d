"""Accuracy figures with intervals. numpy only; logits are float32 [n, k], labels int64 [n]."""

from __future__ import annotations

from typing import Any

import numpy as np

Z95 = 1.959964  # two-sided 95 % point of the normal distribution
RESAMPLES = 1000  # bootstrap draws: the 2.5 % point then rests on 25 of them


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over classes in float64."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    exp = np.exp(shifted)
    return exp / exp.sum(1, keepdims=True)


def top1(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose largest logit is the label's (the first of equal logits counts)."""
    return float((logits.argmax(1) == labels).mean())


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % score interval of a share of n (Wilson 1927)."""
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n)) / (1 + Z95**2 / n)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def binary_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve by ranks, ties counted half (Mann and Whitney 1947). NaN when a class is missing."""
    n_positive, n = int(positive.sum()), len(positive)
    if n_positive in (0, n):
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]
    u = ranks[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(u / (n_positive * (n - n_positive)))


def auc(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """AUC for 2 classes; the mean of one-against-rest AUCs for more. None when a class has no image."""
    p = probabilities(logits)
    if logits.shape[1] == 2:
        # the difference of logits orders as the probability does and does not saturate
        values = [binary_auc(logits[:, 1].astype(np.float64) - logits[:, 0], labels == 1)]
    else:
        values = [binary_auc(p[:, k], labels == k) for k in range(logits.shape[1])]
    return None if np.isnan(values).any() else float(np.mean(values))


def auc_interval(logits: np.ndarray, labels: np.ndarray, seed: int = 0) -> tuple[float, float] | None:
    """95 % percentile bootstrap of `auc`, resampled within each class."""
    if auc(logits, labels) is None:
        return None
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(labels == k) for k in range(logits.shape[1])]
    draws = []
    for _ in range(RESAMPLES if logits.shape[1] == 2 else RESAMPLES // 5):
        rows = np.concatenate([rng.choice(group, len(group)) for group in groups])
        value = auc(logits[rows], labels[rows])
        if value is not None:
            draws.append(value)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts [k, k]: rows are labels, columns are answers."""
    k = logits.shape[1]
    return np.bincount(labels * k + logits.argmax(1), minlength=k * k).reshape(k, k)


def quick(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The figures of one epoch's row: top-1, and AUC where every class is there."""
    figures = {"top1": top1(logits, labels)}
    area = auc(logits, labels)
    return figures if area is None else figures | {"auc": area}


def evaluate(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Every figure of one network on one set, with intervals."""
    share, area = top1(logits, labels), auc(logits, labels)
    interval = auc_interval(logits, labels)
    return {"n": len(labels), "top1": share, "top1_ci95": list(wilson(share, len(labels))), "auc": area,
            "auc_ci95": None if interval is None else list(interval)}


def flips(before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What changed between two stages: agreement, images that went wrong, images that came right."""
    was, now = before.argmax(1), after.argmax(1)
    return {"agree_with_previous": float((was == now).mean()),
            "flips_bad": int(((was == labels) & (now != labels)).sum()),
            "flips_good": int(((was != labels) & (now == labels)).sum())}
