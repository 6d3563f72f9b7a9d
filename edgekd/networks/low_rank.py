"""Low-rank pairs: a pointwise layer as two narrower ones, without a nonlinearity between them.

A pointwise layer is a 1x1 convolution or a linear layer. Which ones become pairs is in a Network's
options under KEY, by the layer's name and the rank, for example

    {"blocks.3.0.conv_pwl": 24}

`factorising` gives a pair the weights of the layer that it replaces.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import nn

from edgekd.core.errors import RecipeError
from edgekd.networks import memory_format

KEY = "low_rank"
# The names of the two layers, within the name of the layer that they replace.
REDUCE, EXPAND = "reduce", "expand"

type Layer = nn.Conv2d | nn.Linear


def is_pointwise(layer: nn.Module) -> bool:
    """Whether a layer multiplies each position by its weights as they stand.

    Subclasses of torch's layers are left out: they compute their weights, or the code of another
    module reads them.
    """
    if type(layer) is nn.Linear:
        return True
    return (
        type(layer) is nn.Conv2d
        and layer.kernel_size == (1, 1)
        and layer.groups == 1
        and layer.padding == (0, 0)
    )


def widths(layer: nn.Module) -> tuple[int, int]:
    """The inputs and outputs of a pointwise layer."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    outputs, inputs = layer.weight.shape[:2]
    return int(inputs), int(outputs)


def apply(model: nn.Module, ranks: Mapping[str, int]) -> nn.Module:
    """Replace layers of a newly built network by pairs of these ranks, with random weights.

    Raises RecipeError, naming the layer, for a pair that the network cannot have.
    """
    layers = dict(model.named_modules())
    for name, rank in ranks.items():
        layer = layers.get(name)
        if not isinstance(layer, nn.Conv2d | nn.Linear) or not is_pointwise(layer):
            raise RecipeError(
                f"low_rank names {name!r}, but {type(model).__name__} has no pointwise layer there",
                "the artifact was made from another version of this network: build it again",
            )
        most = min(widths(layer))
        if not 1 <= rank <= most:
            raise RecipeError(
                f"{name!r} cannot have the rank {rank}: its channels allow 1 to {most}",
                "the artifact was made from another version of this network: build it again",
            )
        put(model, name, pair(layer, rank))
    return model


def pair(layer: Layer, rank: int) -> nn.Sequential:
    """Two layers in place of one. The first takes over the stride; the second has a bias."""
    inputs, outputs = widths(layer)
    reduce: Layer
    expand: Layer
    if isinstance(layer, nn.Conv2d):
        stride = (layer.stride[0], layer.stride[1])
        reduce = nn.Conv2d(inputs, rank, 1, stride, bias=False)
        expand = nn.Conv2d(rank, outputs, 1)
    else:
        reduce, expand = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs)
    return nn.Sequential(OrderedDict([(REDUCE, reduce), (EXPAND, expand)])).train(layer.training)


def put(model: nn.Module, name: str, made: nn.Sequential) -> None:
    """Put a pair in the place of a layer."""
    model.set_submodule(name, memory_format.channels_last(made))


def whole_name(name: str) -> str:
    """The layer whose outputs a layer gives: itself, or the one that its pair replaces."""
    return name.removesuffix(f".{EXPAND}")
