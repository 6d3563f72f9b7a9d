"""Losses on how images of a batch lie to each other: pooled features float32 [b, d], which may differ in d.

No adapter is needed, and any rotation of the student's features gives the same loss.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

TINY = 1e-12  # below a distance that float32 can tell from 0


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
    """Relational KD: distance * Huber(distances / their mean) + angle * Huber(cosines of all angles).

    Park et al. 2019, arXiv 1904.05068: blind to rotation, shift and scale of either network's features. Costs b^3 d.
    """
    return distance * F.smooth_l1_loss(
        _distances(student), _distances(teacher)
    ) + angle * F.smooth_l1_loss(_angles(student), _angles(teacher))


def sp(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the Gram matrices [b, b], each row at unit length; similarity-preserving KD.

    Tung and Mori 2019, arXiv 1907.09682 (Frobenius norm squared over b^2): blind to rotation and scale.
    """

    def alike(x: Tensor) -> Tensor:
        return F.normalize(x @ x.T, dim=1)

    return (alike(student) - alike(teacher)).square().sum() / len(student) ** 2
