"""The orthogonal projection of pooled features, joining a student to a teacher of another width.

Its derivative is written out, so that the step on a CPU can leave most of it to another core.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from edgekd.training import beside

# Added to the Gram matrix before Cholesky, times the mean of its diagonal. It keeps the matrix
# positive definite in float32.
JITTER = 1e-6


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
