"""Losses between features: vectors float32 [b, d] and maps float32 [b, d, h, w].

All are scalars, mean over the batch. The student's features have passed an adapter (`adapters`), so
that both have one shape.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Sides that HCL pools to, each with half the weight of the one before.
SCALES = (4, 2, 1)
# Lower bound under a logarithm. It is reached only when student and teacher are equal bit for bit.
TINY = 1e-12


def pooled(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth-L1 between projected student and layer-normalised teacher features, both [b, d].

    VkD (Miles et al. 2024, arXiv 2403.06213). The projection is orthogonal (training.orthogonal),
    so that only the student's features can lower the loss. The teacher's features are whitened by a
    layer norm without parameters.
    """
    return F.smooth_l1_loss(student, F.layer_norm(teacher, teacher.shape[1:]))


def srd(student: Tensor, teacher: Tensor, *, power: float) -> Tensor:
    """Logarithm of the sum of |student - teacher|^power over batch and features [b, d].

    Both are batch-normalised. Miles and Mikolajczyk 2023, arXiv 2303.11098. Because of the
    logarithm, halving every difference lowers the loss by power * log 2, whatever their size.
    """
    return (student - teacher).abs().pow(power).sum().clamp(min=TINY).log()


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine of each pair of vectors [b, d].

    PEFD (Chen et al. 2022, arXiv 2210.15274) uses it on averaged projections, and DistilBERT (Sanh
    et al. 2019, arXiv 1910.01108) beside KD and the loss on labels.
    """
    return (1 - F.cosine_similarity(student, teacher, dim=1)).mean()


def infonce(
    student: Tensor, teacher: Tensor, *, temperature: float, images: Tensor | None = None
) -> Tensor:
    """InfoNCE: -log softmax of the cosine with the teacher's vector of the same image.

    The softmax is over all teacher's vectors of the batch [b, d]. InfoNCE (van den Oord et al.
    2018, arXiv 1807.03748) between two networks is CRD (Tian et al. 2020, arXiv 1910.10699) without
    its memory. At chance it is log(b); log(b) minus the loss is a lower bound of the shared
    information. `images`, int64 [b]: rows of the same image are not negatives of each other, which
    happens because a balanced batch draws with replacement.
    """
    alike = F.normalize(student, dim=1) @ F.normalize(teacher, dim=1).T / temperature
    if images is not None:
        itself = torch.eye(len(images), dtype=torch.bool, device=images.device)
        same = (images[:, None] == images[None, :]) & ~itself
        alike = alike.masked_fill(same, -torch.inf)
    return F.cross_entropy(alike, torch.arange(len(alike), device=alike.device))


def _at_each_place(x: Tensor) -> Tensor:
    return F.layer_norm(x.movedim(1, -1), x.shape[1:2])


def grid(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error between maps [b, d, h, w] after a layer norm over channels at each place.

    FitNet (Romero et al. 2015, arXiv 1412.6550) on maps of one size. The layer norm makes the
    scales of CNNs and ViTs comparable.
    """
    return F.mse_loss(_at_each_place(student), _at_each_place(teacher))


def hcl(student: Tensor, teacher: Tensor) -> Tensor:
    """`grid` at full size and average-pooled to 4, 2 and 1, with weights 1, 1/2, 1/4 and 1/8.

    The sum is divided by the sum of the weights. This is the hierarchical context loss of ReviewKD
    (Chen et al. 2021, arXiv 2104.09044), on maps that are normalised at each place. As there, sizes
    that are not smaller than the map are left out.
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


def gram(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the Gram matrices of maps [b, d, h, w], over their entries.

    Entry (i, j) of a Gram matrix is the mean over places of channel i times channel j. It is the
    flow-of-solution-procedure matrix (FSP, Yim et al. 2017, CVPR) of one layer with itself: of the
    teacher one map is kept, and the flow from an earlier layer to it is not. Where things lie in
    the image has no effect. As in `grid`, channels are layer-normalised at each place.
    """

    def matrix(x: Tensor) -> Tensor:
        places = _at_each_place(x).flatten(1, -2)
        return places.transpose(1, 2) @ places / places.shape[1]

    return F.mse_loss(matrix(student), matrix(teacher))


def told_apart(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of a discriminator's answers [b, 1]: 1 for the teacher, 0 for the student.

    It is the negative of the value function of a GAN (Goodfellow et al. 2014, arXiv 1406.2661,
    equation 1), and 2 log 2 for a discriminator that guesses.
    """
    return F.softplus(-teacher).mean() + F.softplus(student).mean()


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of the attention maps at unit length, mean over images; channels may differ.

    An attention map is the mean over channels of the squared activations. Attention transfer
    (Zagoruyko and Komodakis 2017, arXiv 1612.03928). The scale of each map and the order of its
    channels have no effect. As a sum over places the loss is between 0 and 2 for maps of every
    size. It is off by default because it hurt a MobileNetV2 in published runs (CIFAR-100, 64.6 to
    58.6 %).
    """

    def attended(x: Tensor) -> Tensor:
        return F.normalize(x.square().mean(1).flatten(1), dim=1)

    return (attended(student) - attended(teacher)).square().sum(1).mean()


def mmd(first: Tensor, second: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two sets of vectors [n, d] and [m, d]; 0 for equal sets.

    The biased estimate with a Gaussian kernel (Gretton et al. 2012). As in MFD (Jung et al. 2021,
    arXiv 2106.04411), the squared width of the kernel is the mean squared distance of all pairs,
    without gradient.
    """
    everything = torch.cat([first, second])
    squared = (everything[:, None] - everything[None, :]).square().sum(-1)
    kernel = torch.exp(-squared / squared.detach().mean().clamp(min=TINY) / 2)
    n = len(first)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def fair(student: Tensor, teacher: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """Sum over classes c and groups g of MMD^2(teacher, class c; student, class c and group g).

    MFD (Jung et al. 2021, arXiv 2106.04411, equation 3). In each class, the student's features of
    every group are drawn to the teacher's features of all groups, so that they do not reveal the
    group. Features are [b, d], `labels` and `groups` int64 [b]. A group of a class without images
    in the batch adds nothing.
    """
    value = student.sum() * 0
    for label in labels.unique():
        inside = labels == label
        for group in groups[inside].unique():
            value = value + mmd(teacher[inside], student[inside & (groups == group)])
    return value
