"""Captures a float nn.Module as a plain aten graph for any batch size.

torch.export takes 2 s for a MobileNet, and recording one forward pass (`recording`) takes 0.1 s.
What is recorded holds for one batch size. A network is therefore recorded with one image and with
two, and torch.export captures it unless both passes ran the same operators with the same arguments.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekd.core.errors import UnsupportedNetwork
from edgekd.networks.further_outputs import marked
from edgekd.quantization import exporting
from edgekd.quantization.recording import Recording, recorded


def capture(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """Capture `model` in eval form as an aten graph for any batch size.

    `example`: float32 [n >= 2, channels, px, px]; only its shape matters. The graph has one input
    and one output and holds copies of the parameters. Raises UnsupportedNetwork when torch.export
    has to capture the network and cannot follow its Python, or when it has several outputs.
    """
    drawn = torch.rand(example[:2].shape, generator=torch.Generator().manual_seed(0))
    try:
        one, two = recorded(model, drawn[:1].clone()), recorded(model, drawn)
    except UnsupportedNetwork:  # torch.export says more about what it cannot follow
        return exporting.export(model, example)
    if holds_for_any_batch(one, two):
        return one.network()
    if marked(one.graph):  # torch.export drops what nothing reads
        raise UnsupportedNetwork(
            f"{type(model).__name__} has several outputs, and computes something else for two "
            "images than for one",
            "keep its answers alone: name them with --outputs",
        )
    return exporting.export(model, example)


def holds_for_any_batch(one: Recording, two: Recording) -> bool:
    """Whether a recording of one image and a recording of two are the same, and so the graph of any
    number of images.
    """
    if one.python_values or two.python_values:
        return False
    first, second = list(one.graph.nodes), list(two.graph.nodes)
    return len(first) == len(second) and all(map(_same, first, second))


def _same(first: fx.Node, second: fx.Node) -> bool:
    """Whether two nodes do the same, and their values differ in nothing but the batch."""
    return (
        (first.op, first.name, first.target) == (second.op, second.name, second.target)
        # As text, in which a node is its name. Numbers and dtypes are written in full.
        and repr((first.args, first.kwargs)) == repr((second.args, second.kwargs))
        and _same_but_batch(first.meta.get("val"), second.meta.get("val"))
    )


def _same_but_batch(first: Any, second: Any) -> bool:
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same_but_batch, first, second))
    if not (isinstance(first, Tensor) and isinstance(second, Tensor)):
        return first is second  # the output node has no value
    sizes = list(first.shape), list(second.shape)
    return sizes[0] == sizes[1] or (
        sizes[0][:1] == [1] and sizes[1][:1] == [2] and sizes[0][1:] == sizes[1][1:]
    )
