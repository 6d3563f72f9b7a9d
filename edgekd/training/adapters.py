"""Adapters: modules that join a student's features to a teacher's of another shape.

They exist during training only. `tokens_to_map` turns a ViT's tokens into a map. `Normed` and
`Ensemble` project pooled features, as `edgekd.training.orthogonal` does; `Grid` projects maps, and
`Exit` is a small classifier on an early map.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.core.errors import RecipeError


def tokens_to_map(features: Tensor, prefix: int) -> Tensor:
    """The map [b, d, h, w] of tokens [b, prefix + h*w, d], without class and register tokens.

    A map is returned as it is. Raises RecipeError for another shape, and for tokens that do not
    form a square.
    """
    if features.ndim == 4:
        return features
    if features.ndim != 3:
        raise RecipeError(
            f"a tap gives features of shape {list(features.shape)}; expected [b, d, h, w] or "
            "[b, n, d]",
            "correct the taps in the model's file",
        )
    patches = features[:, prefix:]
    side = round(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1]:
        raise RecipeError(
            f"{patches.shape[1]} tokens do not form a square map", "use a square input size"
        )
    return patches.transpose(1, 2).reshape(len(features), -1, side, side)


def resize_map(features: Tensor, side: int) -> Tensor:
    """A map [b, d, h, w] resized to side x side: bilinear, and antialiased when it shrinks."""
    if features.shape[-1] == side:
        return features
    return F.interpolate(
        features, (side, side), mode="bilinear", antialias=True, align_corners=False
    )


class Normed(nn.Module):
    """SRD's adapter (arXiv 2303.11098): a projection, and a batch norm for each network.

    The batch norms have no affine part. They give both networks unit variance, so that the student
    cannot lower the loss by scaling its projection.
    """

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.project = nn.Linear(d_in, d_out, bias=False)
        self.student = nn.BatchNorm1d(d_out, affine=False)
        self.teacher = nn.BatchNorm1d(d_out, affine=False)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return self.student(self.project(student)), self.teacher(teacher)


# Slope below 0 for a teacher with negative features, which a plain ReLU could never reach.
LEAK = 0.1


class Ensemble(nn.Module):
    """PEFD's adapter (arXiv 2210.15274): the mean of several projections [b, d_in] -> [b, d_out].

    Each is linear with a ReLU; without it their mean would be one linear map. `signed`: whether the
    teacher's features can be negative, as a transformer's are. The ReLU is then leaky.
    """

    def __init__(self, d_in: int, d_out: int, count: int, signed: bool) -> None:
        super().__init__()
        self.each = nn.ModuleList(nn.Linear(d_in, d_out) for _ in range(count))
        self.slope = LEAK if signed else 0.0

    def forward(self, features: Tensor) -> Tensor:
        return torch.stack(
            [F.leaky_relu(project(features), self.slope) for project in self.each]
        ).mean(0)


class Grid(nn.Module):
    """A 1x1 convolution from the student's channels to the teacher's, at the student's map size."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(d_in, d_out, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.project(features)


class Exit(nn.Module):
    """An OFA exit (arXiv 2310.19444): separable convolution with stride 2, pooling, classifier."""

    def __init__(self, d_in: int, classes: int, width: int = 128) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(d_in, d_in, 3, stride=2, padding=1, groups=d_in, bias=False)
        self.pointwise = nn.Conv2d(d_in, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, classes)

    def features(self, features: Tensor) -> Tensor:
        """The pooled features that the classifier reads, [b, width]."""
        return F.relu(self.norm(self.pointwise(self.depthwise(features)))).mean((2, 3))

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.features(features))


class Reversed(torch.autograd.Function):
    """The identity, whose gradient is negative (Ganin et al. 2016, arXiv 1505.07818).

    What comes after it minimises a loss, and what comes before it maximises the same loss.
    """

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        """The input."""
        return x.view_as(x)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        """The gradient with its sign reversed."""
        return -gradients[0]
