"""Losses on relations between the images of a batch, from pooled features float32 [b, d].

Student and teacher may differ in d, so that no adapter is needed. A rotation of the student's
features has no effect on the loss.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

# Squared distances below this are 0 in float32.
TINY = 1e-12


def _distances(features: Tensor) -> Tensor:
    """Euclidean distances [b, b], divided by the mean of those that are not 0."""
    squared = (features[:, None] - features[None, :]).square().sum(-1)
    apart = squared.clamp(min=TINY).sqrt() * (squared > TINY)
    return (
        apart / apart[squared > TINY].mean().clamp(min=TINY)
        if bool((squared > TINY).any())
        else apart
    )


def _angles(features: Tensor) -> Tensor:
    """Cosine of the angle at i between j and k, [b, b, b]."""
    arms = F.normalize(features[None, :] - features[:, None], dim=2)
    return arms @ arms.transpose(1, 2)


def rkd(student: Tensor, teacher: Tensor, *, distance: float, angle: float) -> Tensor:
    """Relational KD: distance * Huber(distances / their mean) + angle * Huber(cosines of angles).

    Park et al. 2019, arXiv 1904.05068. Rotation, shift and scale of either network's features have
    no effect. The cost is proportional to b^3 d.
    """
    return distance * F.smooth_l1_loss(
        _distances(student), _distances(teacher)
    ) + angle * F.smooth_l1_loss(_angles(student), _angles(teacher))


def sp(student: Tensor, teacher: Tensor) -> Tensor:
    """Similarity-preserving KD: mean squared difference of the Gram matrices [b, b].

    Each row of a Gram matrix has unit length. Tung and Mori 2019, arXiv 1907.09682 (Frobenius norm
    squared over b^2). Rotation and scale have no effect.
    """

    def alike(x: Tensor) -> Tensor:
        return F.normalize(x @ x.T, dim=1)

    return (alike(student) - alike(teacher)).square().sum() / len(student) ** 2
