"""A layer whose output is rounded to codes at once, mostly in float32, with the codes of float64.

float32's error of an output is a small part of a step. It can change a code only where the output
lies that near to the middle between two codes, which is one in some thousand. float64 decides these
alone, so that most of the work reads and writes half of the bytes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekd.quantization.graphs import Node

aten = torch.ops.aten

# More than float32's error of sums * slope + offset, as a share of the largest term: the slope, the
# product and the offset are each rounded once, and the sum of both once, by 2^-24.
ERROR = 2.0**-21
# Where more than this share of a step stays open, float64 computes all.
LARGEST_ERROR = 0.05
UNBOUNDED = (float("-inf"), float("inf"))  # of a layer without an activation


@dataclasses.dataclass(frozen=True)
class Constants:
    """What a layer computes with: `codes` of its weights, in the dtype that its sums are exact in;
    `step`, the real number that one step of a sum stands for; `bias`. The last two are float64, in
    a shape that an output broadcasts with.
    """

    codes: Tensor
    step: Tensor
    bias: Tensor


def bounds_of(activation: Node) -> tuple[float, float] | None:
    """The lowest and highest output of a node that is ReLU or clamps; None for other nodes."""
    if activation.target is aten.relu.default:
        return 0.0, float("inf")
    if activation.target is aten.hardtanh.default:
        given = activation.args[1:]
        return float(given[0]) if given else -1.0, float(given[1]) if len(given) > 1 else 1.0
    return None


class RoundedLayer:
    """Codes of an edge that one layer writes, directly or behind an activation.

    `constants`: the layer's, whose sums are exact in float32. `activation`: its bounds. `scale` and
    `grid`: the edge's step, and its lowest and highest code less the zero point.
    """

    def __init__(
        self,
        constants: Constants,
        activation: tuple[float, float],
        scale: float,
        grid: tuple[int, int],
    ) -> None:
        self._constants, self._activation = constants, activation
        self._scale, self._grid = scale, grid
        self._slope = (constants.step / scale).float()
        offset = constants.bias / scale
        self._offset = offset.float()
        # Outputs beyond the grid get its last code whatever their error is.
        largest = max(map(abs, grid)) + 1 + float(offset.abs().max())
        self._middle = 0.5 - ERROR * largest
        # Rounding keeps the order of numbers, so the activation may clamp codes.
        lowest, highest = (
            float(torch.tensor(bound / scale, dtype=torch.float64).round()) for bound in activation
        )
        self._bounds = max(grid[0], lowest), min(grid[1], highest)

    @property
    def in_float32(self) -> bool:
        """Whether float32 decides most codes."""
        return self._middle > 0.5 - LARGEST_ERROR

    def codes(self, sums: Tensor) -> Tensor:
        """The codes, less the zero point, of the layer's sums: float32 [n, channels, ...]."""
        near = torch.addcmul(self._offset, sums, self._slope)
        codes = near.round()
        # As rows of one number for each channel: so they lie in memory.
        undecided = _rows(near.sub_(codes).abs_()).reshape(-1).gt(self._middle)
        codes.clamp_(*self._bounds)
        places = torch.from_numpy(np.flatnonzero(undecided.numpy()))  # a tenth of torch's time
        if len(places):
            rows = _rows(codes).contiguous()
            rows.reshape(-1)[places] = self._exact(
                _rows(sums).reshape(-1)[places], places % rows.shape[-1]
            )
            codes = rows.movedim(-1, 1)
        return codes

    def _exact(self, sums: Tensor, channels: Tensor) -> Tensor:
        """The codes of single sums, float32 [k], of these channels [k]."""
        step, bias = (
            part.reshape(-1)[channels] for part in (self._constants.step, self._constants.bias)
        )
        real: Any = torch.addcmul(bias, sums.double(), step).clamp_(*self._activation)
        return real.div_(self._scale).round_().clamp_(*self._grid).float()


def _rows(values: Tensor) -> Tensor:
    """[n, channels, ...] as [n, ..., channels], a view."""
    return values.movedim(1, -1)
