"""Several teachers: each image's answer weighs them by how sure each is of what is right. Pure functions.

Teachers' logits are float32 [b, m, k].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def confidence(teachers: Tensor, targets: Tensor) -> Tensor:
    """A weight for each teacher and image, [b, m], that sums to 1 over the teachers: (1 - softmax(CE)) / (m - 1).

    CA-MKD (Zhang et al. 2022, arXiv 2201.00007, equation 3), CE being each teacher's cross-entropy with the targets
    [b, k]: a teacher that is wrong about an image is not heard on it. Two teachers at least.
    """
    wrong = -(targets[:, None, :] * F.log_softmax(teachers, dim=2)).sum(2)
    return (1 - F.softmax(wrong, dim=1)) / (teachers.shape[1] - 1)


def sureness(teachers: Tensor) -> Tensor:
    """The same weights where no label is known: by entropy in place of cross-entropy (Kwon et al. 2020, ICASSP)."""
    log_p = F.log_softmax(teachers, dim=2)
    return (1 - F.softmax(-(log_p.exp() * log_p).sum(2), dim=1)) / (teachers.shape[1] - 1)


def blend(teachers: Tensor, weights: Tensor) -> Tensor:
    """Logits [b, k] of the mixture: the logarithm of the weighted mean of the teachers' probabilities."""
    return torch.logsumexp(
        F.log_softmax(teachers, dim=2) + weights.clamp(min=1e-12).log()[:, :, None], dim=1
    )


def kd(student: Tensor, teachers: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """T^2 sum over teachers of weight * KL(teacher^T || student^T), mean over the batch; `losses.kd` when all agree."""
    log_s = F.log_softmax(student / temperature, dim=1)[:, None, :]
    log_t = F.log_softmax(teachers / temperature, dim=2)
    each = (log_t.exp() * (log_t - log_s)).sum(2)
    return (weights * each).sum(1).mean() * temperature**2
