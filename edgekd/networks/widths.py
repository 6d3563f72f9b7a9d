"""The widths of a pruned network: read from its layers as lists, and applied to a newly built one.

Widths are {layer: [outputs, inputs in a group]} for convolutions and linear layers, and {layer:
[channels]} for batch norms. Only layers that differ from what the builder makes are listed, so that
a pruned network is rebuilt without pickle. They are in a Network's options under KEY, for example:

    {"conv_head": [640, 160], "bn2": [640]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgekd.core.errors import RecipeError

KEY = "widths"
Widths = Mapping[str, Sequence[int]]


def depthwise(layer: nn.Module) -> bool:
    """Whether a layer has one filter for each channel, so that inputs and outputs go together."""
    return (
        isinstance(layer, nn.Conv2d)
        and layer.groups > 1
        and layer.groups == layer.in_channels == layer.out_channels
    )


def of(pruned: nn.Module, built: nn.Module) -> dict[str, list[int]]:
    """The widths of `pruned` where they differ from `built`, the builder's network of that name."""
    own, first = _all(pruned), _all(built)
    return {name: width for name, width in own.items() if width != first[name]}


def _all(model: nn.Module) -> dict[str, list[int]]:
    return {
        name: list(layer.weight.shape[:2])
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear | _BatchNorm) and layer.weight is not None
    }


def apply(model: nn.Module, widths: Widths) -> nn.Module:
    """Narrow the layers of a newly built network in place; of each weight the first channels stay.

    Raises RecipeError, naming the layer, for a width that the network cannot have.
    """
    layers = dict(model.named_modules())
    for name, width in widths.items():
        layer = layers.get(name)
        if not isinstance(layer, nn.Conv2d | nn.Linear | _BatchNorm):
            raise RecipeError(
                f"widths name {name!r}, but {type(model).__name__} has no such layer with a width",
                "the artifact was made from another version of this network: build it again",
            )
        now = list(layer.weight.shape[:2])
        if len(width) != len(now) or not all(1 <= w <= n for w, n in zip(width, now, strict=True)):
            raise RecipeError(
                f"{name!r} cannot have the widths {list(width)}: it is built with {now}",
                "the artifact was made from another version of this network: build it again",
            )
        _narrow(layer, width)
    return model


def _narrow(layer: nn.Conv2d | nn.Linear | _BatchNorm, width: Sequence[int]) -> None:
    if isinstance(layer, _BatchNorm):
        layer.num_features = width[0]
        for name in ("running_mean", "running_var"):
            setattr(layer, name, getattr(layer, name)[: width[0]].clone())
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = width
    else:
        layer.groups = width[0] if depthwise(layer) else layer.groups
        layer.out_channels, layer.in_channels = width[0], width[1] * layer.groups
    layer.weight = _first(layer.weight, width)
    if layer.bias is not None:
        layer.bias = _first(layer.bias, width[:1])


def _first(parameter: Tensor, width: Sequence[int]) -> nn.Parameter:
    return nn.Parameter(parameter.detach()[tuple(slice(w) for w in width)].clone())
