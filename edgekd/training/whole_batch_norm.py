"""Batch norm over all processes' parts of a batch, also for subclasses of BatchNorm2d.

torch's SyncBatchNorm needs a GPU; this works wherever the processes can communicate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class WholeBatchNorm(TorchFunctionMode):
    """A context in which `F.batch_norm` in training uses the statistics of the whole batch.

    `gather` joins the parts of all `size` processes, in order. While `alone()`, this process holds
    the whole batch.
    """

    def __init__(
        self, gather: Callable[[Tensor], Tensor], size: int, alone: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._gather, self._size, self._alone = gather, size, alone

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Replace `F.batch_norm`, and call every other function as it is."""
        named = kwargs or {}
        if function is F.batch_norm:
            return self._normalised(*args, **named)
        return function(*args, **named)

    def _normalised(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training or self._alone():
            return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
        wide = x if x.dtype == torch.float64 else x.float()
        axes = [0, *range(2, x.ndim)]
        own_var, own_mean = torch.var_mean(wide, axes, correction=0)
        every = self._gather(torch.stack([own_mean, own_var])[None])
        means, variances = every.unbind(1)  # [processes, channels]
        mean = means.mean(0)
        var = (variances + (means - mean).square()).mean(0)
        if running_mean is not None and running_var is not None:
            count = self._size * x.numel() // x.shape[1]
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)
        shape = [1, -1, *[1] * (x.ndim - 2)]
        scale = torch.rsqrt(var + eps)
        shift = -mean * scale
        if weight is not None:
            scale, shift = scale * weight, shift * weight
        if bias is not None:
            shift = shift + bias
        return (wide * scale.view(shape) + shift.view(shape)).to(x.dtype)
