"""Losses between class activation maps (CAMs), float32 [b, k, h, w]; scalars, mean over the batch.

A CAM (Zhou et al. 2016, arXiv 1512.04150) is the classifier applied at each place of the map that
it averages. On such networks Grad-CAM is its positive part.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def cams(features: Tensor, weight: Tensor) -> Tensor:
    """Class activation maps [b, k, h, w].

    `features`: the map [b, d, h, w] that is averaged. `weight`: of the linear classifier, [k, d].
    """
    return F.conv2d(features, weight[:, :, None, None])


def cat(student: Tensor, teacher: Tensor, *, side: int) -> Tensor:
    """Mean squared difference of CAMs, average-pooled to side x side and scaled to unit length.

    CAT-KD (Guo et al. 2023, CVPR). It compares where each class is seen, not how strongly, because
    the scale of each map has no effect.
    """

    def place(x: Tensor) -> Tensor:
        return F.normalize(F.adaptive_avg_pool2d(x, side).flatten(2), dim=2)

    return F.mse_loss(place(student), place(teacher))


def e2kd(student: Tensor, teacher: Tensor, answers: Tensor) -> Tensor:
    """1 - cosine of the positive parts of both networks' CAMs, for the teacher's class.

    `answers`: that class, int64 [b]. Both maps have one size. This is the explanation term of e2KD
    (Parchami-Araghi et al. 2024, arXiv 2402.03119) with Grad-CAM. An image for which a network has
    no evidence anywhere (a map without positive values) gives 1 and no gradient.
    """

    def evidence(x: Tensor) -> Tensor:
        return F.relu(x[torch.arange(len(x), device=x.device), answers]).flatten(1)

    return (1 - F.cosine_similarity(evidence(student), evidence(teacher), dim=1)).mean()
