"""Distillation losses: pure functions of logits and features, each with its paper and its guard.

Logits are float32 [b, k]; targets are probabilities [b, k] (so that mixed labels work); results are scalars, mean over
the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.errors import RecipeError


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy with soft targets; `weights` [k] weigh the classes of the target."""
    log_p = F.log_softmax(logits, dim=1)
    if weights is not None:
        targets = targets * weights
    return -(targets * log_p).sum(1).mean()


def kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher^T || student^T), batch mean (Hinton et al. 2015, arXiv 1503.02531).

    T^2 keeps the gradient's size as T grows; `mean` over classes too would scale with k.
    """
    soft = F.log_softmax(student / temperature, dim=1)
    target = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(soft, target, reduction="batchmean", log_target=True) * temperature**2


def pooled(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth-L1 between projected student features and layer-normalised teacher features, both [b, d].

    VkD (Miles et al. 2024, arXiv 2403.06213): the projection is orthogonal (adapters.Orthogonal), so that the loss can
    only be lowered by the student's features, and the teacher's are whitened by a layer norm without parameters.
    """
    return F.smooth_l1_loss(student, F.layer_norm(teacher, teacher.shape[1:]))


def grid(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error between feature maps [b, d, h, w] after layer norm over channels at each place.

    FitNet (Romero et al. 2015, arXiv 1412.6550) on aligned grids; the layer norm makes CNN and ViT scales comparable.
    """
    def at_each_place(x: Tensor) -> Tensor:
        return F.layer_norm(x.movedim(1, -1), x.shape[1:2])

    return F.mse_loss(at_each_place(student), at_each_place(teacher))


def ofa(student: Tensor, teacher: Tensor, targets: Tensor, gamma: float = 1.0) -> Tensor:
    """OFA-KD: -sum_c ((p_teacher + target)^gamma) log p_student  (Hao et al. 2023, arXiv 2310.19444).

    Adding the target lets the teacher's dark knowledge help without drowning the label. gamma 1.0 is the paper's for
    small sets.
    """
    target = (F.softmax(teacher, dim=1) + targets) ** gamma
    return -(target * F.log_softmax(student, dim=1)).sum(1).mean()


def standardised(logits: Tensor, classes: int) -> Tensor:
    """Logits at zero mean and unit deviation a row (Sun et al. 2024, arXiv 2403.01427).

    Raises RecipeError for 2 classes: two z-scored logits are always (+c, -c), which keeps only the sign.
    """
    if classes <= 2:
        raise RecipeError("logit standardisation keeps only the sign of 2 logits", "use plain KD for 2 classes")
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-7)


def soften(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """One-hot float32 [b, k] of int64 labels [b], with label smoothing (Szegedy et al. 2016)."""
    return F.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes


def mixed(targets: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """Targets of mixed images: share * own + (1 - share) * partner's; share is [b]."""
    return torch.lerp(partners, targets, share[:, None])
