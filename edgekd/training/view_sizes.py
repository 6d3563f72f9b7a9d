"""How a view comes to the network's size: antialiased, or as the resizers of apps do it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.core.frames import Frame
from edgekd.core.resizer_names import Resizer
from edgekd.data.resizers.algorithms import ALGORITHMS
from edgekd.data.resizers.antialiased import bilinear

# Where the resizers of apps are trained on, images are first shrunk (antialiased) to at most this
# multiple of the target size. A resizer without antialiasing then skips three pixels of four, and a
# view takes 16 times the pixels of its result.
RESIZED_FROM = 4
ONE_RESIZER = (Resizer.PILLOW,)


@dataclasses.dataclass(frozen=True)
class Resizing:
    """How apps bring images to a network.

    `resizers`: those that apps use; each view draws one. `side`: the pixels a side that they resize
    to, where the file reduces them itself; 0 where they resize to the network's own size.
    """

    resizers: tuple[Resizer, ...] = ONE_RESIZER
    side: int = 0

    @classmethod
    def of(cls, resizers: Sequence[Resizer], sides: Sequence[int], px: int) -> Self:
        """From the setting views.resizers and [height, width] of a frame, or []."""
        frame = Frame.of(sides, px)
        return cls(tuple(resizers), 0 if frame is None else frame.side)

    @property
    def varied(self) -> bool:
        """Whether there are others than Pillow's."""
        return self.resizers != ONE_RESIZER

    def by_pillow(self) -> Self:
        """The same of an app that resizes as Pillow does."""
        return dataclasses.replace(self, resizers=ONE_RESIZER)


def shrunk(image: Tensor, side: int) -> Tensor:
    """Images [b, c, h, h], antialiased, at most `side` high."""
    if side >= image.shape[-1]:
        return image
    return F.interpolate(image, (side, side), mode="bilinear", antialias=True, align_corners=False)


def cut_out(image: Tensor, affine: Tensor, px: int) -> Tensor:
    """The part of each image that its transformation shows, [b, c, px, px]."""
    grid = F.affine_grid(affine, [len(image), image.shape[1], px, px], align_corners=False)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def resized(image: Tensor, drawn: Tensor, px: int, by: Resizing) -> Tensor:
    """Each image [b, c, h, h] at px x px by the resizer that it has drawn, without rounding."""
    weights = _weights(by, image.shape[-1], px, image.device)
    own = weights[(drawn * len(weights)).long().clamp(max=len(weights) - 1)][:, None]
    return (own @ image @ own.transpose(-1, -2)).clamp(0, 1)  # Lanczos goes beyond black and white


@functools.lru_cache(maxsize=8)
def _weights(by: Resizing, side: int, px: int, device: torch.device) -> Tensor:
    """The matrix of each resizer along one side: float32 [resizers, px, side]."""
    each = [ALGORITHMS[name].weights(side, by.side or px) for name in by.resizers]
    if by.side:
        each = [bilinear(by.side, px) @ weights for weights in each]
    return torch.from_numpy(np.stack(each).astype(np.float32)).to(device)
