"""Adapters: modules that join a student's features to a teacher's of another shape.

They exist during training only. `tokens_to_map` turns a ViT's tokens into a map. `Orthogonal`,
`Normed` and `Ensemble` project pooled features, `Grid` projects maps, and `Exit` is a small
classifier on an early map.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.core.errors import RecipeError

# Added to the Gram matrix before Cholesky, times the mean of its diagonal. It keeps the matrix
# positive definite in float32.
JITTER = 1e-6


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


class Orthogonal(nn.Module):
    """A linear map [b, d_in] -> [b, d_out] with orthonormal rows, or columns when it widens.

    W = L^-1 A with A A^T = L L^T (Cholesky). It is differentiable, and on a CPU 100 times as fast
    as torch's parametrization by matrix exponential or Householder products. VkD (Miles et al.
    2024, arXiv 2403.06213).

    On a GPU, the factor is computed before each step, because a Cholesky decomposition cannot be
    captured as part of a CUDA graph. What is left of it in the step are matrix products.
    """

    inverse: Tensor

    def __init__(self, d_in: int, d_out: int, stream: torch.Generator) -> None:
        super().__init__()
        self.narrow = min(d_in, d_out)
        # Orthonormal at first: a square Gaussian matrix is nearly singular, its Gram matrix more
        # so.
        start = torch.linalg.qr(torch.randn(max(d_in, d_out), self.narrow, generator=stream))[0]
        self.raw = nn.Parameter(start.T.contiguous())
        self.widens = d_out > d_in
        # L^-1 of the present step, on a GPU.
        self.register_buffer("inverse", torch.eye(self.narrow), persistent=False)

    def _gram(self) -> Tensor:
        gram = self.raw @ self.raw.T
        jitter = JITTER * gram.diagonal().mean().detach()
        return gram + jitter * torch.eye(self.narrow, device=gram.device)

    def _lower(self) -> Tensor:
        return torch.linalg.cholesky(self._gram())

    @torch.no_grad()
    def before_step(self) -> None:
        """Compute L^-1 of the present weights. The CPU does not wait for it."""
        if self.raw.device.type == "cpu":
            return
        lower = torch.linalg.cholesky_ex(self._gram())[0]
        eye = torch.eye(self.narrow, device=lower.device)
        self.inverse.copy_(torch.linalg.solve_triangular(lower, eye, upper=False))

    def forward(self, features: Tensor) -> Tensor:
        # L^-1 is applied to the batch and not to A, which has more columns than a batch has rows.
        # That halves the time for 1280 -> 384.
        if features.device.type != "cpu":
            inverse = inverse_factor(self._gram(), self.inverse)
            if self.widens:
                return features @ inverse @ self.raw
            return features @ self.raw.T @ inverse.T
        if self.widens:
            return (
                torch.linalg.solve_triangular(self._lower().T, features.T, upper=True).T @ self.raw
            )
        return torch.linalg.solve_triangular(self._lower(), self.raw @ features.T, upper=False).T


class _InverseFactor(torch.autograd.Function):
    """L^-1 of A = L L^T, given A and its known value; its derivative takes matrix products alone.

    d(L^-1) = -phi(M dA M^T) M with M = L^-1, where phi keeps the lower triangle and half of the
    diagonal. It follows from the derivative of Cholesky's L (Murray 2016, arXiv 1602.07527).
    """

    @staticmethod
    def forward(ctx: Any, _matrix: Tensor, inverse: Tensor) -> Tensor:
        made = inverse.clone()
        ctx.save_for_backward(made)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (inverse,) = ctx.saved_tensors
        lower = (grads[0] @ inverse.T).tril()
        lower = lower - 0.5 * torch.diag(lower.diagonal())
        half = inverse.T @ lower @ inverse
        return -0.5 * (half + half.T), None


def inverse_factor(matrix: Tensor, inverse: Tensor) -> Tensor:
    """`inverse`, which is L^-1 of `matrix` = L L^T [n, n], with its derivative by `matrix`."""
    found: Tensor = _InverseFactor.apply(matrix, inverse)
    return found


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
