"""Adapters: what joins a student's features to a teacher's of another shape, built from the shapes seen.

They exist in training only. `tokens_to_map` turns a ViT's tokens into a map; `Orthogonal` projects pooled features;
`Normed` and `Ensemble` are the other projectors of its family; `Grid` aligns maps; `Exit` is a small classifier on an
early map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.core.errors import RecipeError

JITTER = 1e-6  # times the Gram matrix's mean diagonal, added before Cholesky: keeps float32 positive definite


def tokens_to_map(features: Tensor, prefix: int) -> Tensor:
    """Tokens [b, prefix + h*w, d] -> map [b, d, h, w], class and register tokens dropped; a map [b, d, h, w] as it is.

    Raises RecipeError for anything else, or when the tokens do not form a square.
    """
    if features.ndim == 4:
        return features
    if features.ndim != 3:
        raise RecipeError(
            f"a tap gives features of shape {list(features.shape)}; expected [b, d, h, w] or [b, n, d]",
            "mend the taps in the model's file",
        )
    patches = features[:, prefix:]
    side = round(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1]:
        raise RecipeError(
            f"{patches.shape[1]} tokens do not form a square map", "use a square input size"
        )
    return patches.transpose(1, 2).reshape(len(features), -1, side, side)


def resize_map(features: Tensor, side: int) -> Tensor:
    """A map at side x side: averaged when it shrinks (antialiased), bilinear when it grows."""
    if features.shape[-1] == side:
        return features
    return F.interpolate(
        features, (side, side), mode="bilinear", antialias=True, align_corners=False
    )


class Orthogonal(nn.Module):
    """A linear map [b, d_in] -> [b, d_out] whose rows (or columns, when it widens) are orthonormal.

    W = L^-1 A with A A^T = L L^T (Cholesky): differentiable, and 100 times as fast on a CPU as torch's parametrization
    by matrix exponential or Householder products. VkD, arXiv 2403.06213.
    """

    def __init__(self, d_in: int, d_out: int, stream: torch.Generator) -> None:
        super().__init__()
        self.narrow = min(d_in, d_out)
        # Orthonormal from the start: a square Gaussian matrix is nearly singular, and its Gram matrix worse.
        start = torch.linalg.qr(torch.randn(max(d_in, d_out), self.narrow, generator=stream))[0]
        self.raw = nn.Parameter(start.T.contiguous())
        self.widens = d_out > d_in

    def _lower(self) -> Tensor:
        gram = self.raw @ self.raw.T
        jitter = JITTER * gram.diagonal().mean().detach()
        return torch.linalg.cholesky(gram + jitter * torch.eye(self.narrow))

    def forward(self, features: Tensor) -> Tensor:
        # L^-1 meets the batch and not A, which has more columns than a batch has rows: half the time for 1280 -> 384.
        if self.widens:
            return (
                torch.linalg.solve_triangular(self._lower().T, features.T, upper=True).T @ self.raw
            )
        return torch.linalg.solve_triangular(self._lower(), self.raw @ features.T, upper=False).T


class Normed(nn.Module):
    """SRD's adapter (arXiv 2303.11098): linear then batch norm for the student, batch norm for the teacher, none affine.

    Without it the student could follow by scaling its projector; batch statistics hold both to unit variance.
    """

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.project = nn.Linear(d_in, d_out, bias=False)
        self.student = nn.BatchNorm1d(d_out, affine=False)
        self.teacher = nn.BatchNorm1d(d_out, affine=False)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return self.student(self.project(student)), self.teacher(teacher)


LEAK = (
    0.1  # slope below 0 for a teacher with negative features, which a plain ReLU could never reach
)


class Ensemble(nn.Module):
    """PEFD's adapter (arXiv 2210.15274): the mean of several projections [b, d_in] -> [b, d_out], each linear then ReLU.

    Without a nonlinearity their mean would be one linear map. `signed`: the teacher's features can be negative (a
    transformer's are), so that the ReLU leaks.
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
    """A 1x1 convolution from the student's channels to the teacher's, at the student's own grid."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(d_in, d_out, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.project(features)


class Exit(nn.Module):
    """An OFA exit (arXiv 2310.19444): separable convolution with stride 2, average pooling, linear."""

    def __init__(self, d_in: int, classes: int, width: int = 128) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(d_in, d_in, 3, stride=2, padding=1, groups=d_in, bias=False)
        self.pointwise = nn.Conv2d(d_in, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, classes)

    def features(self, features: Tensor) -> Tensor:
        """What the classifier sees, [b, width]."""
        return F.relu(self.norm(self.pointwise(self.depthwise(features)))).mean((2, 3))

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.features(features))
