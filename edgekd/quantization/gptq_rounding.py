"""Rounds a layer's weights one input after the other, and lets the rest make up for each error.

Round-to-nearest is wrong by up to half a step in every weight, and the errors of weights with
correlated inputs add up. Optimal brain compression (Frantar and Alistarh 2022, arXiv 2208.11580),
in the fixed order of GPTQ (Frantar et al. 2022, arXiv 2210.17323), minimizes the squared error of
the layer's *output* instead. It needs neither training nor labels. Inputs are centred, since the
bias takes the change of the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from edgekd.core.errors import TrainingDiverged
from edgekd.tflite.int8_rules import WEIGHT_LIMIT

# Share of the mean variance that is added to every variance, as in GPTQ. Weights of a constant
# input are then rounded to nearest.
DAMPING = 0.01
# Patches for each of the k taps. The error of the covariance falls with the root of their number.
PATCHES_A_TAP = 64
# Images that are unfolded at once, so that memory does not grow with the calibration set.
IMAGES = 16


def covariance(
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """Covariance of the inputs of each group's weights: float64 [groups, k, k].

    k = channels / groups * kh * kw. `x`: float32 [n, channels, h, w]. Every m-th patch is taken, so
    that there are about PATCHES_A_TAP * k. The border is padded as SAME does, which is right or
    near enough for every layer.
    """
    taps = x.shape[1] // groups * kernel[0] * kernel[1]
    places = -(-x.shape[2] // stride[0]) * -(-x.shape[3] // stride[1])
    every = max(1, int((len(x) * places / (PATCHES_A_TAP * taps)) ** 0.5))
    every = min(every, max(1, min(x.shape[2] // stride[0], x.shape[3] // stride[1])))
    padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    count = 0
    total, products = (
        torch.zeros(groups, *shape, dtype=torch.float64) for shape in ((taps,), (taps, taps))
    )
    for part in x.split(IMAGES):
        patches = _patches(part, kernel, [s * every for s in stride], dilation, padding)
        patches = patches.reshape(groups, taps, -1)
        count += patches.shape[2]
        total += patches.sum(2)
        products += patches @ patches.mT
    mean = total / count
    return products / count - mean[:, :, None] * mean[:, None, :]


def _patches(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """What each tap of a kernel reads: [channels, kh, kw, n, out_h, out_w].

    The values of `torch.nn.functional.unfold`, which would read the whole map where patches lie far
    apart, and whose layout would need one more copy.
    """
    rows, columns = (
        _reads(*axis) for axis in zip(x.shape[2:], kernel, stride, dilation, padding, strict=True)
    )
    found = x.new_zeros(x.shape[1], *kernel, len(x), rows.outputs, columns.outputs)
    for row, (to_row, from_row) in enumerate(rows.taps):
        for column, (to_column, from_column) in enumerate(columns.taps):
            read = x[:, :, from_row, from_column].transpose(0, 1)
            found[:, row, column, :, to_row, to_column] = read
    return found


class _Reads(NamedTuple):
    """What the taps of a kernel read along one axis.

    `taps`: for each tap, the outputs for which it reads inside the map, and the elements that it
    reads for them.
    """

    outputs: int
    taps: list[tuple[slice, slice]]


def _reads(size: int, taps: int, stride: int, dilation: int, padding: int) -> _Reads:
    outputs = (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
    found = []
    for tap in range(taps):
        start = tap * dilation - padding  # what the first output reads
        first = max(0, -(start // stride))
        end = max(first, min(outputs, (size - 1 - start) // stride + 1))
        inside = slice(first * stride + start, end * stride + start, stride)
        found.append((slice(first, end), inside))
    return _Reads(outputs, found)


def round_weights(weight: Tensor, scale: Tensor, moments: Tensor) -> Tensor:
    """The weights on the grid scale * -127..127 whose outputs are nearest to those of `weight`.

    `weight` and the result: float32 [groups, out, k]. `scale`: float32 [groups, out]. `moments`:
    float64 [groups, k, k], from `covariance`. Each row's largest weight keeps its code, since the
    scale is taken from it.
    """
    left, step = weight.double().clone(), scale.double()[:, :, None]
    largest = weight.abs().argmax(2)
    variance = moments.diagonal(dim1=1, dim2=2)
    damped = moments + torch.diag_embed(
        (DAMPING * variance.mean(1, keepdim=True)).clamp(min=1e-12).expand_as(variance)
    )
    # The inputs with the largest variance first, while all others can still make up for the error.
    order = damped.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True)
    left = left.gather(2, order[:, None, :].expand_as(left))
    damped = damped.gather(1, order[:, :, None].expand_as(damped)).gather(
        2, order[:, None, :].expand_as(damped)
    )
    inverse = _root_of_inverse(damped)
    nearest = (left / step).round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
    done = torch.empty_like(left)
    for tap in range(left.shape[2]):
        code = (left[:, :, tap : tap + 1] / step).round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        kept = (order[:, tap, None] == largest)[:, :, None]
        code = torch.where(kept, nearest[:, :, tap : tap + 1], code)
        done[:, :, tap : tap + 1] = code * step
        error = (left[:, :, tap : tap + 1] - done[:, :, tap : tap + 1]) / inverse[
            :, None, tap, tap, None
        ]
        left[:, :, tap:] -= error * inverse[:, None, tap, tap:]
    return (
        torch.empty_like(done).scatter_(2, order[:, None, :].expand_as(done), done).to(weight.dtype)
    )


def _root_of_inverse(covariance: Tensor) -> Tensor:
    """The upper Cholesky factor of the inverse, float64 [groups, k, k].

    Where inputs hardly vary around a large mean, float32 products leave a covariance with negative
    eigenvalues. Such a group gets more damping, tenfold at each try, until it is positive definite:
    its weights are then rounded almost to nearest. Raises TrainingDiverged for inputs that are not
    finite.
    """
    if not covariance.isfinite().all():
        raise TrainingDiverged(
            "a layer's inputs on the calibration images are not finite",
            "lower the learning rate of the distil stage, or check the network's weights",
        )
    size = covariance.diagonal(dim1=1, dim2=2).abs().amax(1).clamp(min=1e-12)
    extra = DAMPING * size
    while True:
        lower, failed = torch.linalg.cholesky_ex(covariance)
        root, again = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        wrong = (failed != 0) | (again != 0)
        if not wrong.any():
            return root
        covariance = covariance + torch.diag_embed((extra * wrong)[:, None].expand_as(lower[:, 0]))
        extra = extra * 10
