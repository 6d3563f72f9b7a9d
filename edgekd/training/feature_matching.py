"""A student that learns to give a teacher's features, before it learns any class.

Its classifier has an output for each dimension of the teacher's pooled features, and a second
projection reads the patch features from its last map. Each dimension is standardised, since a few
dimensions of a transformer vary a hundred times as much as the others and would be learned alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.networks import token_pooling, watching
from edgekd.networks.compute import autocast
from edgekd.networks.inference import classify
from edgekd.training import adapters
from edgekd.training.batches import Batch
from edgekd.training.fit_plan import Step
from edgekd.training.loss_modules import said

# Added to a standard deviation: a dimension that never varies would be divided by 0.
TINY = 1e-6
# How many times the mean squared error the loss is. Divided among hundreds of dimensions, its
# gradient would hardly move a student by the learning rates that suit labels. After 72 steps on 288
# X-rays, the cosine on validation images was 0.11 with 1, 0.19 with 10, and 0.08 with 40, where the
# bound on the gradient's norm held the student back.
SCALE = 10.0


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of each dimension of some features, float32 [d]."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, parts: Iterable[Tensor]) -> Spread:
        """Over parts [n, d], or maps [n, d, h, w] of which each place counts."""
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for part in parts:
            rows = part.double() if part.ndim == 2 else part.double().flatten(2).movedim(1, 2)
            rows = rows.reshape(-1, part.shape[1])
            count += len(rows)
            total, squares = total + rows.sum(0), squares + rows.square().sum(0)
        mean = total / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt()
        return cls(mean.float(), std.float() + TINY)


class Standardised(nn.Module):
    """Features [b, d, ...] with mean 0 and standard deviation 1 in each dimension."""

    mean: Tensor
    std: Tensor

    def __init__(self, spread: Spread) -> None:
        super().__init__()
        self.register_buffer("mean", spread.mean, persistent=False)
        self.register_buffer("std", spread.std, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (features.ndim - 2))
        return (features - self.mean.view(shape)) / self.std.view(shape)


class Matching(nn.Module):
    """A student with what compares it to a teacher; `loss` is taken of each batch.

    `student`: its classifier has as many outputs as the teacher's pooled features. `grid`: of the
    teacher's patch features, None where they are not learned; `weight`: of their loss. `width`:
    channels of the student's last map. `precision`: of the student's matrix products.
    """

    def __init__(
        self,
        student: nn.Module,
        pooled: Spread,
        grid: Spread | None = None,
        weight: float = 0.0,
        width: int = 0,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.student, self.weight, self.precision = student, weight, precision
        self.pooled = Standardised(pooled)
        self.grid = None if grid is None else Standardised(grid)
        self.project = None if grid is None else adapters.Grid(width, len(grid.mean))
        self.to(memory_format=torch.channels_last)

    def loss(self, batch: Batch, _step: Step) -> Tensor:
        """SCALE times the mean squared error on standardised features: of the pooled ones, and of
        the patches.
        """
        with autocast(self.precision, batch.images.device):
            last = self.student.forward_features(batch.images)  # type: ignore[operator]
            pooled = self.student.forward_head(last, pre_logits=True)  # type: ignore[operator]
        last = last.float()
        given = classify(self.student, last, pooled.float())
        value = SCALE * F.mse_loss(given, self.pooled(said(batch, "pooled")))
        if self.grid is None or self.project is None:
            return value
        own = self.project(places(self.student, last))
        teacher = adapters.resize_map(self.grid(said(batch, "grid")), own.shape[-1])
        return value + SCALE * self.weight * F.mse_loss(own, teacher)

    @torch.inference_mode()
    def cosine(self, student: nn.Module, seen: Iterable[tuple[Tensor, Tensor]]) -> float:
        """Mean cosine between a student's and the teacher's standardised pooled features.

        `seen`: images as the student takes them, with the teacher's pooled features of the same.
        """
        alike = [
            F.cosine_similarity(student(images), self.pooled(pooled), dim=1)
            for images, pooled in seen
        ]
        return float(torch.cat(alike).mean())

    @torch.no_grad()
    def unstandardised(self) -> None:
        """Let the student's classifier give the teacher's features as they are.

        A classifier that is not one linear layer keeps giving standardised ones.
        """
        layer = self.student.get_classifier()  # type: ignore[operator]
        if isinstance(layer, nn.Linear):
            layer.weight.mul_(self.pooled.std[:, None])
            layer.bias.mul_(self.pooled.std).add_(self.pooled.mean)


def places(student: nn.Module, last: Tensor) -> Tensor:
    """The last features of a student as a map [b, d, h, w]."""
    found = watching.channels_first(student, last)
    return adapters.tokens_to_map(found, getattr(student, "num_prefix_tokens", 0))


@torch.no_grad()
def start(
    student: nn.Module, features: nn.Module, teacher: nn.Module, taught: str = "", read: str = ""
) -> None:
    """Let a student begin as one that knows the teacher's features, in place.

    `features`: the trained student of `Matching`. The student takes all its weights but the
    classifier's. Where all three classifiers are one linear layer, the student's becomes the
    teacher's, applied to the features: its first answers are then the teacher's, as far as the
    features are right. `taught`: the tokens that were learned, and `read`: those that the teacher's
    classifier reads (`token_pooling.CHOICES`).
    """
    own, given = student.get_classifier(), features.get_classifier()  # type: ignore[operator]
    head = teacher.get_classifier()  # type: ignore[operator]
    left_out = {id(value) for value in own.parameters()}
    known = student.state_dict(keep_vars=True)
    state = {
        name: value
        for name, value in features.state_dict().items()
        if name in known and id(known[name]) not in left_out
    }
    student.load_state_dict(state, strict=False)
    if not all(isinstance(layer, nn.Linear) for layer in (own, given, head)):
        return
    places = _read(given.out_features, taught, read)
    own.weight.copy_(head.weight @ given.weight[places])
    own.bias.copy_(head.weight @ given.bias[places] + head.bias)


def _read(width: int, taught: str, read: str) -> Tensor:
    """Which of `width` features a classifier reads, int64, by the tokens of both."""
    every = torch.arange(width)
    if taught == read:
        return every
    parts = dict(zip(token_pooling.CHOICES[taught], every.chunk(2), strict=True))
    return torch.cat([parts[part] for part in token_pooling.CHOICES[read]])
