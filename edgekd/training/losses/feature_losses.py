"""Losses between features: pooled vectors float32 [b, d] and maps float32 [b, d, h, w]; scalars, mean over the batch.

The student's come through an adapter (`adapters`), so that both have one shape.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SCALES = (4, 2, 1)  # sides that HCL pools to, each with half the weight of the one before
TINY = 1e-12  # under a logarithm: reached only when student and teacher are equal to the bit


def pooled(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth-L1 between projected student features and layer-normalised teacher features, both [b, d].

    VkD (Miles et al. 2024, arXiv 2403.06213): the projection is orthogonal (adapters.Orthogonal), so that the loss can
    only be lowered by the student's features, and the teacher's are whitened by a layer norm without parameters.
    """
    return F.smooth_l1_loss(student, F.layer_norm(teacher, teacher.shape[1:]))


def srd(student: Tensor, teacher: Tensor, *, power: float) -> Tensor:
    """Logarithm of the sum of |student - teacher|^power over batch and features, both batch-normalised [b, d].

    Miles and Mikolajczyk 2023, arXiv 2303.11098. The logarithm softens as the difference shrinks: halving every
    difference lowers the loss by power * log 2, whatever its size.
    """
    return (student - teacher).abs().pow(power).sum().clamp(min=TINY).log()


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine of each pair of vectors [b, d] (PEFD, Chen et al. 2022, arXiv 2210.15274, on averaged projections)."""
    return (1 - F.cosine_similarity(student, teacher, dim=1)).mean()


def infonce(
    student: Tensor, teacher: Tensor, *, temperature: float, images: Tensor | None = None
) -> Tensor:
    """-log softmax of the cosine with the own image's teacher vector among all of the batch's [b, d].

    InfoNCE (van den Oord et al. 2018, arXiv 1807.03748) between two networks, CRD (Tian et al. 2020, arXiv 1910.10699)
    without its memory: log(b) at chance, and log(b) minus the loss bounds the shared information from below. `images`
    int64 [b]: rows of the same image are no negatives of each other (a balanced batch draws with replacement).
    """
    alike = F.normalize(student, dim=1) @ F.normalize(teacher, dim=1).T / temperature
    if images is not None:
        same = (images[:, None] == images[None, :]) & ~torch.eye(len(images), dtype=torch.bool)
        alike = alike.masked_fill(same, -torch.inf)
    return F.cross_entropy(alike, torch.arange(len(alike)))


def _at_each_place(x: Tensor) -> Tensor:
    return F.layer_norm(x.movedim(1, -1), x.shape[1:2])


def grid(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error between feature maps [b, d, h, w] after layer norm over channels at each place.

    FitNet (Romero et al. 2015, arXiv 1412.6550) on aligned grids; the layer norm makes CNN and ViT scales comparable.
    """
    return F.mse_loss(_at_each_place(student), _at_each_place(teacher))


def hcl(student: Tensor, teacher: Tensor) -> Tensor:
    """`grid` at full size and average-pooled to 4, 2 and 1, with weights 1, 1/2, 1/4, 1/8, divided by their sum.

    The hierarchical context loss of ReviewKD (Chen et al. 2021, arXiv 2104.09044), on maps normalised at each place; a
    scale that is not smaller than the map is left out, as theirs is.
    """
    s, t = (_at_each_place(x).movedim(-1, 1) for x in (student, teacher))
    value, weight, total = F.mse_loss(s, t), 1.0, 1.0
    for side in SCALES:
        if side < s.shape[-1]:
            weight /= 2
            value = value + weight * F.mse_loss(
                F.adaptive_avg_pool2d(s, side), F.adaptive_avg_pool2d(t, side)
            )
            total += weight
    return value / total


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of the normalised maps of mean squared activation, a mean over images; channels may differ.

    Attention transfer (Zagoruyko and Komodakis 2017, arXiv 1612.03928): blind to each map's scale and to any order of
    channels, and, being a sum over places, of one size (0 to 2) whatever the map's. It hurt a MobileNetV2 in published
    runs (CIFAR-100, 64.6 to 58.6), hence off.
    """

    def attended(x: Tensor) -> Tensor:
        return F.normalize(x.square().mean(1).flatten(1), dim=1)

    return (attended(student) - attended(teacher)).square().sum(1).mean()


def mmd(first: Tensor, second: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two sets of vectors [n, d], [m, d] under a Gaussian kernel; 0 for equal sets.

    Gretton et al. 2012, the biased estimate. The kernel's squared width is the mean squared distance of all pairs, as in
    MFD (Jung et al. 2021, arXiv 2106.04411), and takes no gradient.
    """
    everything = torch.cat([first, second])
    squared = (everything[:, None] - everything[None, :]).square().sum(-1)
    kernel = torch.exp(-squared / squared.detach().mean().clamp(min=TINY) / 2)
    n = len(first)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def fair(student: Tensor, teacher: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """Sum over classes c and groups g of MMD^2(teacher's features of class c, student's of class c in group g).

    MFD (Jung et al. 2021, arXiv 2106.04411, equation 3): in each class every group's student features are drawn to the
    teacher's of all groups, so that the group cannot be read off them. Features [b, d], int64 [b] labels and groups; a
    cell that the batch lacks adds nothing.
    """
    value = student.sum() * 0
    for label in labels.unique():
        inside = labels == label
        for group in groups[inside].unique():
            value = value + mmd(teacher[inside], student[inside & (groups == group)])
    return value
