"""Rounding that makes up for its own errors: on the grid, nearer to the float layer's output, the
scale untouched.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.core.errors import TrainingDiverged
from edgekd.quantization import gptq_rounding
from edgekd.quantization.gptq_rounding import covariance, round_weights


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def correlated(n: int, channels: int, px: int) -> Tensor:
    """Smooth feature maps whose channels move together, as real ones do."""
    smooth = F.avg_pool2d(drawn(n, 3, px + 4, px + 4, seed=6), 5, 1)
    return F.relu(torch.einsum("ck,nkhw->nchw", drawn(channels, 3, seed=5), smooth))


@pytest.mark.parametrize(("groups", "kernel"), [(1, 1), (1, 3), (16, 3), (2, 1)])
def test_the_layer_is_nearer_to_float_than_with_the_nearest_codes(groups: int, kernel: int) -> None:
    """Judged on other images than those it was rounded on."""
    x, others = correlated(32, 16, 12).split(16)
    weight = drawn(16, 16 // groups, kernel, kernel, seed=1)
    scale = weight.abs().flatten(1).amax(1) / 127
    rows, steps = weight.flatten(1).unflatten(0, (groups, -1)), scale.reshape(groups, -1)
    moments = covariance(x, (kernel, kernel), (1, 1), (1, 1), groups)
    done = round_weights(rows, steps, moments)
    codes = done / steps[:, :, None]
    assert torch.allclose(codes, codes.round(), atol=1e-3)
    assert torch.equal(
        codes.abs().amax(2).round(), torch.full(codes.shape[:2], 127.0)
    )  # the scale is observed again, the same
    nearest = (rows / steps[:, :, None]).round() * steps[:, :, None]

    def error(candidate: Tensor) -> float:
        off = F.conv2d(
            others, candidate.reshape(weight.shape) - weight, padding=kernel // 2, groups=groups
        )
        return float(off.var((0, 2, 3)).mean())  # the mean is the bias's to correct

    assert error(done) < 0.8 * error(nearest)


def test_inputs_that_never_move_are_rounded_to_nearest() -> None:
    weight = drawn(1, 4, 6)
    scale = weight.abs().amax(2) / 127
    done = round_weights(weight, scale, torch.zeros(1, 6, 6, dtype=torch.float64))
    assert torch.allclose(done, (weight / scale[:, :, None]).round() * scale[:, :, None])


def test_a_covariance_with_rounding_errors_is_no_obstacle() -> None:
    """float32 products of inputs around a large mean leave negative eigenvalues."""
    weight = drawn(1, 4, 6)
    scale = weight.abs().amax(2) / 127
    noise = drawn(1, 6, 6, seed=1).double()
    moments = 1e-8 * (noise + noise.mT)
    assert torch.linalg.eigvalsh(moments).min() < 0
    codes = round_weights(weight, scale, moments) / scale[:, :, None]
    assert torch.allclose(codes, codes.round(), atol=1e-3)
    assert codes.isfinite().all()


def test_inputs_that_are_not_finite_are_refused() -> None:
    weight = drawn(1, 4, 6)
    with pytest.raises(TrainingDiverged, match="not finite"):
        round_weights(weight, weight.abs().amax(2), torch.full((1, 6, 6), float("nan")).double())


def test_covariance_is_that_of_the_patches() -> None:
    x = drawn(3, 4, 5, 5)
    patches = F.unfold(x, 3, padding=1).transpose(1, 2).flatten(0, 1).double()
    expected = torch.cov(patches.T, correction=0)
    assert torch.allclose(covariance(x, (3, 3), (1, 1), (1, 1), 1)[0], expected, atol=1e-5)
    each = covariance(x, (3, 3), (1, 1), (1, 1), 4)
    assert torch.allclose(each[2], expected[18:27, 18:27], atol=1e-5)


def test_patches_that_lie_apart_are_those_of_unfold() -> None:
    """With a stride, a dilation, a border, and maps whose channels lie last in memory."""
    x = drawn(3, 4, 9, 11, seed=2).contiguous(memory_format=torch.channels_last)
    found = gptq_rounding._patches(x, (3, 2), (2, 3), (2, 1), (2, 0))
    wanted = F.unfold(x, (3, 2), (2, 1), (2, 0), (2, 3))
    assert torch.equal(found.permute(3, 0, 1, 2, 4, 5).reshape(wanted.shape), wanted)
