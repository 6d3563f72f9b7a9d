"""Functions that TFLite has as one int8 operator and torch has not.

Rewrites put them into a graph as calls. Each is differentiable, and runs in float32 and float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Below this a norm counts as zero: the square root of the smallest normal float32.
TINY = 2.0**-63


def l2_normalize(x: Tensor) -> Tensor:
    """L2_NORMALIZATION: `x` divided by its Euclidean norm over the last axis; zeros stay zeros."""
    return x / x.square().sum(-1, keepdim=True).clamp_min(TINY**2).sqrt()


def inverse_root(x: Tensor, floor: float) -> Tensor:
    """RSQRT: 1 / sqrt(x) of values >= 0, any shape. Values below `floor` count as `floor`."""
    return x.clamp_min(floor).rsqrt()


def scaled_softmax(x: Tensor, beta: float) -> Tensor:
    """SOFTMAX: softmax(beta * x) over the last axis."""
    return torch.softmax(x * beta, -1)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PRELU: x, times `slope` where x is negative. `slope`: [channels, 1, 1] for a map."""
    return x.clamp_min(0.0) + slope * x.clamp_max(0.0)


def transposed_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], crop: Sequence[int]
) -> Tensor:
    """TRANSPOSE_CONV: each pixel of `x` adds its product with the kernel to the output.

    `x`: [n, in, h, w]. `weight`: [out, in, kh, kw], where torch has [in, out, kh, kw]: so every
    weight has its output channels first. `crop`: rows and columns [top, left, bottom, right] that
    are cut off the result of (h - 1) * stride + kh rows.
    """
    whole = torch.nn.functional.conv_transpose2d(x, weight.transpose(0, 1), bias, tuple(stride))
    top, left, bottom, right = crop
    return whole[..., top : whole.shape[2] - bottom, left : whole.shape[3] - right]
