"""The fake-quantizers of int8 training: for activations, for weights and for biases.

An activation has a learned range, a weight has scales that are observed at each step. All round to
the int8 grid in the forward pass and pass gradients through (straight-through estimator, Bengio et
al. 2013, arXiv:1308.3432). `edgekd.quantization.fakequant_placement` inserts those for activations
and weights; biases depend on both and are inserted afterwards.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgekd.tflite.int8_rules import (
    BIAS_LIMIT,
    INT8_MAX,
    INT8_MIN,
    MULTIPLIER_CEILING,
    MULTIPLIER_FLOOR,
    SCALE_FLOOR,
    WEIGHT_LIMIT,
    Range,
    range_from_minmax,
    symmetric_range,
)
from edgekd.training.processes import team

PHASES = (
    "float",  # quantize nothing, observe nothing
    "calibrate",  # quantize nothing, widen the ranges to hold every value
    "observe",  # quantize, and let the ranges follow by a moving average
    "frozen",  # quantize with the present ranges
)
# Weight of the newest batch in the moving average of a range: torch's MovingAverageMinMaxObserver
# has the same. The average starts from calibrated minima and maxima, so it only has to follow the
# training.
OBSERVE_RATE = 0.01


class ActivationFakeQuant(nn.Module):
    """Fake-quantizes one edge of the graph: int8, per tensor, asymmetric.

    Input and output: float32, any shape. `fixed`: a range that never changes (the image, a
    softmax). `symmetric`: whether the zero point is 0. The property `range` raises ValueError
    before anything was observed.
    """

    low: Tensor
    high: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, fixed: Range | None = None, symmetric: bool = False) -> None:
        super().__init__()
        self.phase = "float"
        self.fixed = fixed
        self.symmetric = symmetric
        self.register_buffer("low", torch.tensor(float("inf"), dtype=torch.float64))
        self.register_buffer("high", torch.tensor(float("-inf"), dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(1.0, dtype=torch.float32))
        self.register_buffer("zero_point", torch.tensor(0, dtype=torch.int32))
        # (edge, share): the scale is at least `share` times that edge's. In a tuple, so that
        # nn.Module does not register the edge twice.
        self.least: tuple[ActivationFakeQuant, float] | None = None
        self.root_of: tuple[ActivationFakeQuant] | None = None  # in a tuple as well
        if fixed is not None:
            self.set_range(fixed)

    def keep_above(self, source: ActivationFakeQuant, share: float) -> None:
        """Keep the scale at or above `share` times that of another edge, from the next observation
        on.
        """
        self.least = (source, share)

    def keep_below_root(self, source: ActivationFakeQuant) -> None:
        """Keep the range within the inverse roots of the codes of another edge.

        The smallest code above zero is one step, so no larger root occurs. Values that int8 rounds
        to zero have roots that would make the range useless.
        """
        self.root_of = (source,)

    @property
    def range(self) -> Range:
        """The present range, as the file will hold it."""
        if self.fixed is None and not torch.isfinite(self.low):
            raise ValueError("this edge has no range yet: calibrate first")
        return Range(float(self.scale), int(self.zero_point))

    def _largest_root(self) -> Tensor:
        """The inverse root of the smallest code above zero of the edge that RSQRT reads."""
        assert self.root_of is not None
        return self.root_of[0].scale.double().rsqrt()

    def set_range(self, value: Range) -> None:
        """Use this range from now on."""
        self.scale.fill_(value.scale)
        self.zero_point.fill_(value.zero_point)
        self.low.fill_(value.scale * (INT8_MIN - value.zero_point))
        self.high.fill_(value.scale * (INT8_MAX - value.zero_point))

    def forget(self) -> None:
        """Drop what was observed. A fixed range stays."""
        if self.fixed is None:
            self.low.fill_(float("inf"))
            self.high.fill_(float("-inf"))

    def observe(self, x: Tensor) -> None:
        """Let one batch move the range.

        In phase "calibrate" the range grows to hold it; in phase "observe" it follows by a moving
        average.
        """
        if x.device.type != "cpu":
            self._observe_there(x)
            return
        low, high = (bound.double() for bound in team().extremes(*_extremes(x.detach())))
        if self.phase == "calibrate" or not torch.isfinite(self.low):
            low, high = torch.minimum(low, self.low), torch.maximum(high, self.high)
        else:
            low = self.low + OBSERVE_RATE * (low - self.low)
            high = self.high + OBSERVE_RATE * (high - self.high)
        self.low.copy_(low)
        self.high.copy_(high)
        # The training loop reports a batch that diverged.
        if bool(torch.isfinite(low) & torch.isfinite(high)):
            if self.least is not None:
                source, share = self.least
                high = torch.maximum(
                    high, low.clamp(max=0.0) + (INT8_MAX - INT8_MIN) * share * source.scale.double()
                )
            if self.root_of is not None:
                high = torch.minimum(high, self._largest_root())
                low = torch.minimum(low, high)
            made = symmetric_range if self.symmetric else range_from_minmax
            found = made(float(low), float(high))
            self.scale.fill_(found.scale)
            self.zero_point.fill_(found.zero_point)

    def _observe_there(self, x: Tensor) -> None:
        """`observe` with the same arithmetic on a GPU, for which the CPU need not wait."""
        low, high = (bound.double() for bound in team().extremes(*torch.aminmax(x.detach())))
        wider = torch.minimum(low, self.low), torch.maximum(high, self.high)
        followed = (
            self.low + OBSERVE_RATE * (low - self.low),
            self.high + OBSERVE_RATE * (high - self.high),
        )
        widens = ~torch.isfinite(self.low) | (self.phase == "calibrate")
        low, high = (torch.where(widens, *pair) for pair in zip(wider, followed, strict=True))
        self.low.copy_(low)
        self.high.copy_(high)
        finite = torch.isfinite(low) & torch.isfinite(high)
        if self.least is not None:
            source, share = self.least
            least = (INT8_MAX - INT8_MIN) * share * source.scale.double()
            high = torch.maximum(high, low.clamp(max=0.0) + least)
        if self.root_of is not None:
            high = torch.minimum(high, self._largest_root())
            low = torch.minimum(low, high)
        scale, zero_point = grid_of(low, high, self.symmetric)
        self.scale.copy_(torch.where(finite, scale, self.scale))
        self.zero_point.copy_(torch.where(finite, zero_point, self.zero_point))

    def forward(self, x: Tensor) -> Tensor:
        """`x` on the int8 grid, or as it is in the phases that do not quantize."""
        if self.phase == "float":
            return x
        if self.fixed is None and self.phase in ("calibrate", "observe"):
            self.observe(x)
        if self.phase == "calibrate":
            # What follows must be observed as int8 will have it, without the roots that saturate.
            return x if self.root_of is None else x.clamp(max=float(self._largest_root()))
        if x.is_cpu and x.dtype == torch.float32 and not torch.is_grad_enabled():
            return self._rounded(x)
        return torch.fake_quantize_per_tensor_affine(
            x, self.scale.float(), self.zero_point, INT8_MIN, INT8_MAX
        )

    def _rounded(self, x: Tensor) -> Tensor:
        """Torch's fake_quantize_per_tensor_affine of float32 values on a CPU, without a gradient.

        The same float32 arithmetic, in operators that use the CPU's vectors: they take a fifth of
        the time.
        """
        zero_point = int(self.zero_point)
        codes = (x * self.scale.reciprocal()).round_()
        codes = codes.clamp_(INT8_MIN - zero_point, INT8_MAX - zero_point)
        return codes.mul_(self.scale).add_(0.0)  # no -0.0, of which RSQRT would be -infinity


def _extremes(x: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest value.

    torch copies what does not lie in the order of its axes, as maps with their channels last. That
    takes ten times as long as to look.
    """
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    low, high = torch.aminmax(x.permute(0, 2, 3, 1) if last else x)
    return low, high


def grid_of(low: Tensor, high: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Scale (float32) and zero point (int32) that `int8_rules.symmetric_range`, or else
    `int8_rules.range_from_minmax`, gives for float64 scalars, computed where they are.
    """
    if symmetric:
        high = torch.maximum(-low, high)
        low = high * INT8_MIN / INT8_MAX
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scale = ((high - low) / (INT8_MAX - INT8_MIN)).clamp(min=SCALE_FLOOR).float()
    place = INT8_MIN - low / scale.double()
    away = torch.sign(place) * torch.floor(place.abs() + 0.5)
    return scale, away.clamp(INT8_MIN, INT8_MAX).int()


class _RoundToGrid(torch.autograd.Function):
    """scale * round(w / scale), clipped to the grid; the gradient passes through, for clipped
    weights too.

    The codes are computed in float32, in a float64 network too: they are those that the file holds.
    """

    @staticmethod
    def forward(_ctx: Any, weight: Tensor, scale: Tensor) -> Tensor:
        return (
            torch.round(weight.float() / scale)
            .clamp_(-WEIGHT_LIMIT, WEIGHT_LIMIT)
            .to(weight.dtype)
            .mul_(scale)
        )

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class PerChannelWeightFakeQuant(nn.Module):
    """Fake-quantizes one weight: int8, symmetric, with scales from the weight itself at each step.

    Input and output: float32 [out, in, kh, kw] or [out, in]. Granularity "per_tensor" gives the
    layer one scale. `attach` names the edges of the layer, which bound the scales
    (`edgekd.tflite.int8_rules.weight_scale_floor` and `weight_scale_ceiling`). `step`: the scale of
    all channels where the weights are given on their grid, and not trained.
    """

    def __init__(self, granularity: str = "per_channel", step: float | None = None) -> None:
        super().__init__()
        self.granularity = granularity
        self.step = step
        self.phase = "float"
        self.scale = torch.ones(1)  # of the last forward pass; the bias is rounded with it
        # In a tuple, so that nn.Module does not register the modules a second time.
        self.layer: tuple[ActivationFakeQuant, ActivationFakeQuant, nn.Module | None] | None = None

    def attach(
        self, source: ActivationFakeQuant, target: ActivationFakeQuant, bias_owner: nn.Module | None
    ) -> None:
        """Name the edges that the layer reads and writes, and the module that holds its `bias`."""
        self.layer = (source, target, bias_owner)

    def scales(self, weight: Tensor) -> Tensor:
        """max|w| / 127 within the bounds that the layer's edges set: float32 [out] or [1]."""
        if self.step is not None:
            return torch.full([len(weight)], self.step, device=weight.device)
        with torch.no_grad():
            flat = weight.detach().abs().flatten(1).amax(dim=1).double() / WEIGHT_LIMIT
            flat = flat.clamp_(min=SCALE_FLOOR)
            if self.layer is not None:
                source, target, owner = self.layer
                flat = torch.maximum(
                    flat, target.scale.double() * MULTIPLIER_FLOOR / source.scale.double()
                )
                if owner is not None and isinstance(owner.bias, Tensor):
                    bias = owner.bias.detach().double().abs()
                    flat = torch.maximum(flat, bias / (source.scale.double() * BIAS_LIMIT))
                flat = torch.minimum(
                    flat, MULTIPLIER_CEILING * target.scale.double() / source.scale.double()
                )
            if self.granularity == "per_tensor":
                flat = flat.amax(dim=0, keepdim=True)
            return flat.float()

    def forward(self, weight: Tensor) -> Tensor:
        """The weight on the int8 grid, or as it is in the phases that do not quantize."""
        if self.phase in ("float", "calibrate"):
            return weight
        self.scale = self.scales(weight)
        grid: Tensor = _RoundToGrid.apply(
            weight, self.scale.reshape([-1] + [1] * (weight.ndim - 1))
        )
        return grid


class BiasFakeQuant(nn.Module):
    """Rounds a bias, float32 [out], to whole steps of s_in * s_w, as the int32 bias of the file is.

    In most layers half a step is a thousandth of an output code. It is many codes where the
    multiplier is large, as with batch norms that were folded over nearly constant channels. A
    network trained without this rounding is then not the one that ships.
    """

    def __init__(self, weight: PerChannelWeightFakeQuant, source: ActivationFakeQuant) -> None:
        super().__init__()
        self.layer = (weight, source)  # in a tuple, so that nn.Module does not register them twice

    def forward(self, bias: Tensor) -> Tensor:
        """`bias` in whole steps. Call it after the weight's fake-quantizer."""
        weight, source = self.layer
        if weight.phase in ("float", "calibrate"):
            return bias
        with torch.no_grad():
            step = weight.scale.double() * source.scale.double()
            whole = (torch.round(bias.double() / step) * step).to(bias.dtype)
        return bias + (whole - bias).detach()
