"""Accuracy figures with 95 % intervals. numpy only; logits are float32 [n, k], labels int64 [n].

Where an image may have several labels, labels are 0 or 1, int64 [n, k], and each logit belongs to
one label. An answer is then one label of one image, given where the sigmoid is at least a half.
In both cases "top1" is the share of right answers. "auc" is the mean of the labels' AUCs where
there are several labels.

Intervals of the AUC, and of changes between two networks, are percentile intervals of a bootstrap
over images (Efron and Tibshirani 1986, Statistical Science 1(1), 54-75,
doi 10.1214/ss/1177013815). Images are drawn within each class, so that every draw holds every
class. Figures other than the AUC do not need that, and there classes of few images are drawn as
one: a class of one image would be in every draw once, as if it were certain. With several labels
an image is drawn from all images, together with all its labels. For a change, both networks are
scored on the same draws (a paired bootstrap), so that what both find hard cancels.
"""

from __future__ import annotations

import math

import numpy as np

from edgekd.core.artifacts import Labels
from edgekd.core.intervals import Interval, wilson
from edgekd.evaluation.accuracy_record import Change, Figures, Flips, LabelFigures

RESAMPLES = 1000  # bootstrap draws: the 2.5 % point then rests on 25 of them
# Draws of an AUC over more than 2 classes, which costs one AUC a class and draw.
MANY_CLASSES_RESAMPLES = 200
DRAWS_AT_ONCE = 50  # draws scored together: a few tens of MB for 10,000 images
# Images from which a class is drawn by itself. Draws within a class of n images have (n - 1) / n of
# the variance: of 10 images 0.9, so that an interval is 5 % too narrow, and of 1 image none.
ENOUGH = 10
METHODS: dict[Labels, str] = {
    "one": "paired bootstrap over images, drawn within each class (for top-1, classes of fewer "
    f"than {ENOUGH} images as one), both networks scored on the same draws; 95 % percentile "
    "interval",
    "many": "paired bootstrap over images, each with all its labels, both networks scored on the "
    "same draws; 95 % percentile interval",
}
TESTS: dict[Labels, str] = {
    "one": "exact McNemar test of the flipped images (McNemar 1947)",
    "many": "exact sign test of the images of which more labels went one way than the other "
    "(after McNemar 1947)",
}
PAPER = "Efron and Tibshirani 1986, Statistical Science 1(1), 54-75, doi 10.1214/ss/1177013815"


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over classes, float64 [n, k]."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    exp = np.exp(shifted)
    return exp / exp.sum(1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-logit)) in float64, in the logits' shape: each label's own probability."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64))))


def kind(labels: np.ndarray) -> Labels:
    """How many labels an image may have, from the shape of `labels`."""
    return "many" if labels.ndim == 2 else "one"


def answers(logits: np.ndarray, labels: Labels) -> np.ndarray:
    """The class with the largest logit [n] (the first of equal ones), or 0 and 1 [n, k]."""
    return logits.argmax(1) if labels == "one" else (logits >= 0).astype(np.int64)


def right(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each answer is right: bool [n], or [n, k] for several labels."""
    return np.asarray(answers(logits, kind(labels)) == labels)


def top1(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of right answers."""
    return float(right(logits, labels).mean())


def binary_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve, from ranks; a tie counts half (Mann and Whitney 1947).

    `scores`: [n]; `positive`: bool [n]. NaN when either class has no image.
    """
    n_positive, n = int(positive.sum()), len(positive)
    if n_positive in (0, n):
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]
    u = ranks[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(u / (n_positive * (n - n_positive)))


def auc(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """The AUC of 2 classes; of more, or of several labels, the mean of one-against-rest AUCs.

    None when a class has no image.
    """
    p = probabilities(logits)
    if labels.ndim == 2:
        values = label_aucs(logits, labels)
    elif logits.shape[1] == 2:
        # the difference of logits orders as the probability does and does not saturate
        values = [binary_auc(logits[:, 1].astype(np.float64) - logits[:, 0], labels == 1)]
    else:
        values = [binary_auc(p[:, k], labels == k) for k in range(logits.shape[1])]
    return None if np.isnan(values).any() else float(np.mean(values))


def label_aucs(logits: np.ndarray, labels: np.ndarray) -> list[float]:
    """The AUC of each label; NaN where all images have it, or none has."""
    return [binary_auc(logits[:, k], labels[:, k] == 1) for k in range(logits.shape[1])]


def resamples(
    labels: np.ndarray, classes: int, seed: int = 0, draws: int = RESAMPLES
) -> np.ndarray:
    """How often each bootstrap draw holds each image: uint16 [draws, n].

    In every draw each class keeps its number of images. With several labels no grouping could
    keep all their numbers, so the draws are from all images.
    """
    rng = np.random.default_rng(seed)
    if labels.ndim == 2:
        return rng.multinomial(
            len(labels), np.full(len(labels), 1 / len(labels)), size=draws
        ).astype(np.uint16)
    counts = np.zeros((draws, len(labels)), np.uint16)
    for k in range(classes):
        group = np.flatnonzero(labels == k)
        if len(group):
            counts[:, group] = rng.multinomial(
                len(group), np.full(len(group), 1 / len(group)), size=draws
            )
    return counts


def drawn_together(labels: np.ndarray) -> np.ndarray:
    """The labels [n], with one in place of all those that fewer than ENOUGH images have.

    Without labels the float network's answers stand for them, and most have one or two images.
    """
    if labels.ndim == 2:
        return labels
    values, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    few = counts < ENOUGH
    return np.where(few[place], values[few][0], labels) if few.any() else labels


def resampled_auc(logits: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> np.ndarray | None:
    """`auc` of each draw of `resamples`: float64 [draws]. None when a class has no image."""
    if auc(logits, labels) is None:
        return None
    if labels.ndim == 2:
        return np.asarray(resampled_label_aucs(logits, labels, counts).mean(0))
    if logits.shape[1] == 2:
        return _binary_aucs(logits[:, 1].astype(np.float64) - logits[:, 0], labels == 1, counts)
    p = probabilities(logits)
    each = [_binary_aucs(p[:, k], labels == k, counts) for k in range(logits.shape[1])]
    return np.asarray(np.mean(each, axis=0))


def resampled_label_aucs(logits: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The AUC of each label in each draw: float64 [k, draws].

    NaN for a draw in which all images have the label, or none has.
    """
    return np.stack(
        [_binary_aucs(logits[:, k], labels[:, k] == 1, counts) for k in range(logits.shape[1])]
    )


def _binary_aucs(scores: np.ndarray, positive: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`binary_auc` with each image counted as often as the draw holds it: float64 [draws]."""
    order = np.argsort(scores, kind="stable")
    # where each run of equal scores starts
    starts = np.flatnonzero(np.concatenate([[True], np.diff(scores[order]) > 0]))
    found = []
    for first in range(0, len(counts), DRAWS_AT_ONCE):
        part = counts[first : first + DRAWS_AT_ONCE, order].astype(np.float64)
        ups = np.add.reduceat(part * positive[order], starts, axis=1)
        downs = np.add.reduceat(part * ~positive[order], starts, axis=1)
        below = np.cumsum(downs, axis=1) - downs / 2  # negatives below, ties counted half
        with np.errstate(invalid="ignore"):
            found.append((ups * below).sum(1) / (ups.sum(1) * downs.sum(1)))
    return np.concatenate(found)


def _interval(draws: np.ndarray) -> Interval:
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def _auc_draws(labels: np.ndarray, classes: int) -> int:
    return RESAMPLES if classes == 2 or labels.ndim == 2 else MANY_CLASSES_RESAMPLES


def auc_interval(logits: np.ndarray, labels: np.ndarray, seed: int = 0) -> Interval | None:
    """95 % percentile bootstrap interval of `auc`, drawn within each class."""
    classes = logits.shape[1]
    found = resampled_auc(
        logits, labels, resamples(labels, classes, seed, _auc_draws(labels, classes))
    )
    return None if found is None else _interval(found)


def change(before: np.ndarray, after: np.ndarray, labels: np.ndarray, seed: int = 0) -> Change:
    """What a network gains over the one before it, in shares.

    The intervals are paired (see the module's docstring). `top1_p` comes from `sign_test`.
    """
    classes = before.shape[1]
    counts, together = resamples(labels, classes, seed), drawn_together(labels)
    flips = counts if together is labels else resamples(together, classes, seed)
    step = right(after, labels).astype(np.float64) - right(before, labels)
    # with several labels an image counts once, since its answers depend on each other
    step = step if step.ndim == 1 else step.mean(1)
    area: float | None = None
    area_ci95: Interval | None = None
    draws = counts[: _auc_draws(labels, classes)]
    was, now = resampled_auc(before, labels, draws), resampled_auc(after, labels, draws)
    if was is not None and now is not None:
        area = (auc(after, labels) or 0.0) - (auc(before, labels) or 0.0)
        area_ci95 = _interval(now - was)
    return Change(
        top1=float(step.mean()),
        top1_ci95=_interval(flips @ step / len(labels)),
        top1_p=sign_test(int((step < 0).sum()), int((step > 0).sum())),
        auc=area,
        auc_ci95=area_ci95,
    )


def sign_test(lost: int, won: int) -> float:
    """Two-sided chance of a split at least this uneven, if an image were lost or won by coin toss.

    This is the exact form of McNemar's test (McNemar 1947, Psychometrika 12, 153-157). A bootstrap
    of a handful of flipped images is too sure of itself: with 4 lost and none won its interval
    leaves zero out, while this test gives 0.125.
    """
    flipped = lost + won
    tail = sum(math.comb(flipped, count) for count in range(min(lost, won) + 1))
    return min(1.0, 2 * tail / 2**flipped)


def confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts int64 [k, k]: rows are labels, columns are answers."""
    k = logits.shape[1]
    return np.bincount(labels * k + logits.argmax(1), minlength=k * k).reshape(k, k)


def quick(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The figures of one epoch's row: "top1", and "auc" where every class has an image."""
    figures = {"top1": top1(logits, labels)}
    area = auc(logits, labels)
    return figures if area is None else figures | {"auc": area}


def evaluate(logits: np.ndarray, labels: np.ndarray) -> Figures:
    """Every figure of one network on one set of images, with intervals."""
    if labels.ndim == 2:
        return _of_labels(logits, labels)
    share = top1(logits, labels)
    return Figures(
        n=len(labels),
        top1=share,
        top1_ci95=wilson(share, len(labels)),
        auc=auc(logits, labels),
        auc_ci95=auc_interval(logits, labels),
    )


def _of_labels(logits: np.ndarray, labels: np.ndarray, seed: int = 0) -> Figures:
    """`evaluate` for several labels, with the figures of each label in their order."""
    counts = resamples(labels, logits.shape[1], seed)
    draws = resampled_label_aucs(logits, labels, counts)
    good, rows = right(logits, labels), []
    for k, area in enumerate(label_aucs(logits, labels)):
        has = labels[:, k] == 1
        known = not math.isnan(area)
        rows.append(
            LabelFigures(
                auc=area if known else None,
                auc_ci95=_interval(draws[k]) if known else None,
                positives=int(has.sum()),
                sensitivity=float(good[has, k].mean()) if has.any() else None,
                specificity=float(good[~has, k].mean()) if not has.all() else None,
            )
        )
    mean = auc(logits, labels)
    return Figures(
        n=len(labels),
        top1=top1(logits, labels),
        top1_ci95=_interval(counts @ good.mean(1) / len(labels)),
        auc=mean,
        auc_ci95=None if mean is None else _interval(draws.mean(0)),
        per_label=rows,
    )


def flips(before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> Flips:
    """How many answers of two networks agree, went from right to wrong, and from wrong to right."""
    same = answers(before, kind(labels)) == answers(after, kind(labels))
    was, now = right(before, labels), right(after, labels)
    return Flips(
        agree_with_previous=float(same.mean()),
        flips_bad=int((was & ~now).sum()),
        flips_good=int((~was & now).sum()),
    )


def divergence(logits: np.ndarray, reference: np.ndarray, labels: Labels = "one") -> np.ndarray:
    """Kullback-Leibler divergence of each answer from the reference's, in nats: float64 [n].

    KL(reference || answer) over softmax probabilities (Kullback and Leibler 1951), computed from
    log-softmax; 0 when the two are equal. With several labels it is the sum over their sigmoids.
    """
    if labels == "many":
        one, other = (
            np.stack([np.zeros_like(part), part], 2).reshape(-1, 2) for part in (logits, reference)
        )
        return np.asarray(divergence(one, other).reshape(logits.shape).sum(1))
    p, q = _log_probabilities(reference), _log_probabilities(logits)
    return np.asarray(np.maximum((np.exp(p) * (p - q)).sum(1), 0.0))  # rounding can leave -1e-17


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))
