"""Features of views of images, on which the linear head of a frozen network is fitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

# Bytes of float32 features that are kept in memory. More of them are read again for every step of
# the fit.
HELD = 256 << 20
# Rows that are read at a time.
PART = 1 << 16


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of `views` views of `count` images.

    `take(view, order)`: those of some images, float32 [b, d]; `order`: int64 [b].
    """

    views: int
    count: int
    take: Callable[[int, Tensor], Tensor]

    @classmethod
    def of(cls, features: Tensor) -> Features:
        """Features in memory, float32 [views, n, d]."""
        return cls(len(features), features.shape[1], lambda view, order: features[view, order])

    def at(self, order: Tensor) -> Tensor:
        """All views of some images, float32 [views, b, d]."""
        return torch.stack([self.take(view, order) for view in range(self.views)])

    def parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows, a part at a time: the image of each, int64 [b], and its features [b, d]."""
        for view in range(self.views):
            for order in torch.arange(self.count).split(PART):
                yield order, self.take(view, order)

    def held(self) -> Iterable[tuple[Tensor, Tensor]]:
        """The parts: in memory if they are few, else read again in every pass over them."""
        width = self.take(0, torch.zeros(1, dtype=torch.long)).shape[1]
        if self.views * self.count * width * 4 > HELD:
            return _Again(self.parts)
        orders, parts = zip(*self.parts(), strict=True)
        return [(torch.cat(orders), torch.cat(parts))]


def standardised(features: Features, mean: Tensor, std: Tensor) -> Features:
    """The features with mean 0 and unit variance."""
    return dataclasses.replace(
        features, take=lambda view, order: (features.take(view, order) - mean) / std
    )


def spread(*features: Features) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature, float32 [d], over all views of all images.

    The standard deviation is at least 1e-6.
    """
    rows = sum(each.views * each.count for each in features)
    mean = sum(part.double().sum(0) for each in features for _, part in each.parts()) / rows
    squares = sum(
        (part.double() - mean).square().sum(0) for each in features for _, part in each.parts()
    )
    std = torch.as_tensor(squares / max(1, rows - 1)).sqrt()
    return torch.as_tensor(mean).float(), std.float().clamp(min=1e-6)


@dataclasses.dataclass(frozen=True)
class _Again[T]:
    """An iterable that calls `start` for every pass over it."""

    start: Callable[[], Iterator[T]]

    def __iter__(self) -> Iterator[T]:
        return self.start()
