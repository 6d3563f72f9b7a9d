"""Adapters: modules that join a student's features to a teacher's of another shape.

They exist during training only. `tokens_to_map` turns a ViT's tokens into a map. `Orthogonal`,
`Normed` and `Ensemble` project pooled features, `Grid` projects maps, and `Exit` is a small
classifier on an early map.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from edgekd.core.errors import RecipeError
from edgekd.training import beside

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

    W = L^-1 A with A A^T = L L^T (Cholesky), where A are the weights. It is differentiable, and on
    a CPU 100 times as fast as torch's parametrization by matrix exponential or Householder
    products. VkD (Miles et al. 2024, arXiv 2403.06213).

    L is computed before each step: on a CPU by another core while the student's forward pass runs,
    and on a GPU because a Cholesky decomposition cannot be captured as part of a CUDA graph.
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
        self._waiting: Callable[[], _Basis] | None = None  # for the basis of the present step

    @torch.no_grad()
    def before_step(self) -> None:
        """Begin to compute L of the present weights. The caller does not wait for it."""
        if self.raw.device.type == "cpu":
            self._waiting = beside.start(self._on_host)
            return
        lower = torch.linalg.cholesky_ex(self._gram())[0]
        eye = torch.eye(self.narrow, device=lower.device)
        self.inverse.copy_(torch.linalg.solve_triangular(lower, eye, upper=False))

    def forward(self, features: Tensor) -> Tensor:
        if features.device.type == "cpu":
            basis = (self._waiting or self._on_host)()
            self._waiting = None
        else:
            basis = self._on_device()
        found: Tensor = _Projection.apply(features, self.raw, basis, self.widens)
        return found

    @torch.no_grad()
    def _on_host(self) -> _Basis:
        lower = torch.linalg.cholesky(self._gram())
        return _HostBasis(torch.linalg.solve_triangular(lower, self.raw, upper=False), lower)

    @torch.no_grad()
    def _on_device(self) -> _Basis:
        return _DeviceBasis(self.inverse @ self.raw, self.inverse)

    def _gram(self) -> Tensor:
        gram = self.raw @ self.raw.T
        gram.diagonal().add_(JITTER * gram.diagonal().mean())
        return gram


class _Basis(Protocol):
    """W, the orthonormal rows [narrow, wide] of the weights A, and how A learns."""

    @property
    def rows(self) -> Tensor: ...

    def learn(self, weights: Tensor, change: Callable[[], Tensor]) -> Tensor | None:
        """The gradient L^-T change() of A; None where it is added to A's when backward() ends."""


@dataclasses.dataclass(frozen=True)
class _HostBasis:
    """On a CPU, where another core computes the gradient while backward() goes on."""

    rows: Tensor
    lower: Tensor

    def learn(self, weights: Tensor, change: Callable[[], Tensor]) -> None:
        wait = beside.start(lambda: self._gradient(change))

        def add() -> None:
            gradient = wait()
            weights.grad = gradient if weights.grad is None else weights.grad + gradient

        # As torch's own FullyShardedDataParallel ends its backward passes; there is no public way.
        torch.autograd.Variable._execution_engine.queue_callback(add)

    @torch.no_grad()
    def _gradient(self, change: Callable[[], Tensor]) -> Tensor:
        return torch.linalg.solve_triangular(self.lower.T, change(), upper=True)


@dataclasses.dataclass(frozen=True)
class _DeviceBasis:
    """On a GPU, where products with L^-1 itself are fast."""

    rows: Tensor
    inverse: Tensor

    def learn(self, weights: Tensor, change: Callable[[], Tensor]) -> Tensor:
        del weights
        return self.inverse.T @ change()


class _Projection(torch.autograd.Function):
    """Features [b, d_in] times W^T, or times W where it widens: W = L^-1 A, A A^T = L L^T.

    With M = L^-1, d(M) = -phi(M d(A A^T) M^T) M, where phi keeps the lower triangle and half of the
    diagonal; it follows from the derivative of Cholesky's L (Murray 2016, arXiv 1602.07527). So

        dA = M^T (dW - K W),  K = phi(T) + phi(T)^T,  T = dW W^T.

    dW is a product of two matrices of as many rows as the batch, and so is T.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor, basis: _Basis, widens: bool) -> Tensor:
        out = features @ basis.rows if widens else features @ basis.rows.T
        ctx.save_for_backward(features, weights, out)
        ctx.basis, ctx.widens = basis, widens
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, weights, out = ctx.saved_tensors
        basis, widens = ctx.basis, ctx.widens
        back = grad @ basis.rows.T if widens else grad @ basis.rows
        left, right, seen = (features, grad, back) if widens else (grad, features, out)

        def change() -> Tensor:
            """The difference dW - K W."""
            lower = (left.T @ seen).tril_()
            both = lower + lower.tril(-1).T
            return torch.addmm(left.T @ right, both, basis.rows, alpha=-1)

        return back, basis.learn(weights, change), None, None


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
