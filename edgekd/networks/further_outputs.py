"""Outputs of a network beside its answers: an embedding, a map, the scores of a second head.

In a graph, such an output is a node that nothing reads:

    torch.ops.edgekd.further_output(value, "embedding")

The graph's own output stays the answers (logits), so whatever reads answers alone needs to know
nothing of the others, and whatever walks the graph meets them on its way.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import node as fx_node

NAMESPACE = "edgekd"


@torch.library.custom_op(f"{NAMESPACE}::further_output", mutates_args=())
def _further_output(value: Tensor, name: str) -> Tensor:
    """A copy of `value`, which the network also gives, as `name`."""
    del name
    return value.clone()


@_further_output.register_fake
def _(value: Tensor, name: str) -> Tensor:
    del name
    return torch.empty_like(value)


FURTHER_OUTPUT: Any = torch.ops.edgekd.further_output.default
fx_node.has_side_effect(FURTHER_OUTPUT)  # so that it is no dead code


def mark(value: Tensor, name: str) -> None:
    """Say, inside a network's forward, that the network also gives `value`, as `name`."""
    FURTHER_OUTPUT(value, name)


def marked(graph: fx.Graph) -> dict[str, fx.Node]:
    """{name: the node whose value it is} of the further outputs, in their order."""
    found: dict[str, fx.Node] = {}
    for node in graph.nodes:
        if node.target is FURTHER_OUTPUT:
            value, name = node.args
            found[str(name)] = value
    return found


class AllOutputs(fx.Interpreter):
    """Runs a graph and keeps its further outputs beside its answers.

    `further`: {name: value} of the last run, in the order of `marked`.
    """

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.further: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        found = super().run_node(n)
        if n.target is FURTHER_OUTPUT:
            self.further[str(n.args[1])] = found
        return found
