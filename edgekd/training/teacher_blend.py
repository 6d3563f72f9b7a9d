"""Several teachers: for each image they are weighted by their confidence in the right class.

All functions are pure. Teachers' logits are float32 [b, m, k] for m teachers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def confidence(teachers: Tensor, targets: Tensor) -> Tensor:
    """Weights of the teachers for each image, [b, m]: (1 - softmax(CE)) / (m - 1). Their sum is 1.

    CE is the cross-entropy of each teacher with the targets [b, k], so that a teacher which is
    wrong about an image counts little there. CA-MKD (Zhang et al. 2022, arXiv 2201.00007, equation
    3). Needs at least two teachers.
    """
    known = targets.nan_to_num(0.0)  # a label that is not known (NaN) does not count
    wrong = -(known[:, None, :] * F.log_softmax(teachers, dim=2)).sum(2)
    return (1 - F.softmax(wrong, dim=1)) / (teachers.shape[1] - 1)


def sureness(teachers: Tensor) -> Tensor:
    """Such weights without labels, from the entropy of each teacher (Kwon et al. 2020, ICASSP)."""
    log_p = F.log_softmax(teachers, dim=2)
    return (1 - F.softmax(-(log_p.exp() * log_p).sum(2), dim=1)) / (teachers.shape[1] - 1)


def blend(teachers: Tensor, weights: Tensor) -> Tensor:
    """Logits [b, k] of the mixture: the log of the weighted mean of the teachers' probabilities."""
    return torch.logsumexp(
        F.log_softmax(teachers, dim=2) + weights.clamp(min=1e-12).log()[:, :, None], dim=1
    )


def kd(student: Tensor, teachers: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """T^2 sum over teachers of weight * KL(teacher^T || student^T), mean over the batch.

    When all teachers agree, this is `label_losses.kd`.
    """
    log_s = F.log_softmax(student / temperature, dim=1)[:, None, :]
    log_t = F.log_softmax(teachers / temperature, dim=2)
    each = (log_t.exp() * (log_t - log_s)).sum(2)
    return (weights * each).sum(1).mean() * temperature**2
