"""Losses on labels, and plain KD: pure functions of logits, which every training stage uses.

Logits are float32 [b, k]. Targets are probabilities [b, k], so that mixed labels work, or 0 to 1
for each label where an image may have several, with NaN for a label that is not known. Results are
scalars, mean over the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.core.artifacts import Labels


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy with soft targets. `weights`, [k]: of the classes in the targets."""
    log_p = F.log_softmax(logits, dim=1)
    if weights is not None:
        targets = targets * weights
    return -(targets * log_p).sum(1).mean()


def binary_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of each label's sigmoid, mean over labels and batch.

    `weights`, [2, k]: of absent and of present labels, as `label_weights` gives them. A target of
    NaN is not known: it is left out of the mean (U-Ignore of Irvin et al. 2019, arXiv 1901.07031).
    """
    known = ~targets.isnan()
    # The host would have to wait for a GPU to learn this.
    if targets.device.type == "cpu" and bool(known.all()):
        return _each_label(logits, targets, weights).mean()
    each = _each_label(logits, targets.nan_to_num(0.0), weights)
    found = each[known] if targets.device.type == "cpu" else each.where(known, 0.0)
    return found.sum() / known.sum().clamp(min=1)


def _each_label(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """The terms of `binary_cross_entropy`, [b, k]."""
    each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return each if weights is None else each * torch.lerp(weights[0], weights[1], targets)


def fit(labels: Labels) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The loss on labels: cross-entropy of one softmax, or of each label's sigmoid."""
    return binary_cross_entropy if labels == "many" else cross_entropy


def label_weights(labels: Tensor) -> Tensor:
    """Weights [2, k] that give images without and with each label the same share of the loss.

    `labels`: 0 to 1, [n, k]; NaN, for a label that is not known, does not count. This is the
    balancing of ChestX-ray8 (W-CEL, Wang et al. 2017, arXiv 1705.02315), scaled so that the mean
    over images is 1.
    """
    shares = labels.float()
    present = shares.nanmean(0).nan_to_num(0.5) if bool(shares.isnan().any()) else shares.mean(0)
    present = present.clamp(1 / len(labels), 1 - 1 / len(labels))
    return 0.5 / torch.stack([1 - present, present])


def kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher^T || student^T), batch mean (Hinton et al. 2015, arXiv 1503.02531).

    T^2 keeps the size of the gradient as T grows. A mean over classes, too, would depend on k.
    """
    soft = F.log_softmax(student / temperature, dim=1)
    target = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(soft, target, reduction="batchmean", log_target=True) * temperature**2


def soften(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Targets float32 [b, k] of int64 labels [b], with label smoothing (Szegedy et al. 2016).

    Several labels [b, k], int64 or float32, are smoothed one by one, towards a half; NaN stays NaN.
    """
    if labels.ndim == 2:
        return labels.float() * (1 - smoothing) + smoothing / 2
    return F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes


def mixed(targets: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """Targets of mixed images: share * own + (1 - share) * partner's. `share`: [b].

    Where the share is 1, a label that the partner does not know (NaN) leaves the image's own.
    """
    return torch.where(share[:, None] < 1, torch.lerp(partners, targets, share[:, None]), targets)
