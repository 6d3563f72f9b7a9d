"""The size of a network: parameters, and multiply-accumulates (MACs) of each layer."""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from edgekd.networks.compute import device_of


class Size(TypedDict):
    """Parameters, and multiply-accumulates of one image in convolutions and linear layers."""

    params: int
    macs: int


def layer_macs(model: nn.Module, px: int, channels: int = 3) -> dict[str, int]:
    """MACs of one image [channels, px, px], by layer, in the order in which the layers run.

    Counts convolutions and linear layers.
    """
    names: dict[nn.Module, str] = {
        layer: name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    macs: dict[str, int] = {}

    def count(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        width = output.shape[1] if isinstance(layer, nn.Conv2d) else output.shape[-1]
        positions = output.numel() // width
        weights: int = layer.weight.numel()  # type: ignore[operator]
        macs[names[layer]] = macs.get(names[layer], 0) + positions * weights

    handles = [layer.register_forward_hook(count) for layer in names]
    try:
        with torch.inference_mode():
            model(torch.zeros(1, channels, px, px, device=device_of(model)))
    finally:
        for handle in handles:
            handle.remove()
    return macs


def size(model: nn.Module, px: int, channels: int = 3) -> Size:
    """The size of a network for an input of [channels, px, px]."""
    return {
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "macs": sum(layer_macs(model, px, channels).values()),
    }
