"""The memory format in which every network of EdgeKD keeps its weights."""

from __future__ import annotations

import torch
from torch import nn


def channels_last[M: nn.Module](model: M) -> M:
    """The model with its weights of four axes in channels_last memory format, in place.

    `Module.to` would refuse a network that has weights of five axes, too, such as timm's
    LambdaNetworks. It would also give other strides to axes of length 1, by which torch chooses
    kernels that round differently.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return model
