"""A captured aten graph in plain form: functional, without operators that do nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekd.networks.module_paths import place
from edgekd.quantization.graphs import clean, has_path, nodes_of

aten = torch.ops.aten

# Operators that return their first argument in a network that is in eval form.
IDENTITY = frozenset(
    {
        aten.dropout.default,
        aten.dropout_.default,
        aten.feature_dropout.default,
        aten.alias.default,
        aten.clone.default,
        aten.contiguous.default,
        aten.detach.default,
        aten.detach_.default,
        aten.lift_fresh_copy.default,
    }
)
# In-place operator -> the same without side effects.
OUT_OF_PLACE: dict[Any, Any] = {
    aten.hardtanh_.default: aten.hardtanh.default,
    aten.relu_.default: aten.relu.default,
    aten.relu6_.default: aten.relu6.default,
    aten.add_.Tensor: aten.add.Tensor,
    aten.mul_.Tensor: aten.mul.Tensor,
    aten.hardswish_.default: aten.hardswish.default,
    aten.sigmoid_.default: aten.sigmoid.default,
    aten.hardsigmoid_.default: aten.hardsigmoid.default,
    aten.silu_.default: aten.silu.default,
    aten.sub_.Tensor: aten.sub.Tensor,
    aten.div_.Tensor: aten.div.Tensor,
    aten.leaky_relu_.default: aten.leaky_relu.default,
    aten.elu_.default: aten.elu.default,
    aten.gelu_.default: aten.gelu.default,
}


def plain(model: nn.Module, graph: fx.Graph, held: Mapping[str, Tensor]) -> fx.GraphModule:
    """Tidy a captured graph and give it copies of what it reads.

    `held`: {path: value} of what the graph reads beside the parameters of `model`.
    """
    root = nn.Module()
    for name, parameter in model.named_parameters():
        place(root, name, nn.Parameter(parameter.detach().clone()))
    for name, value in held.items():
        if isinstance(value, Tensor) and not has_path(root, name):
            copy = value.detach().clone()
            place(root, name, nn.Parameter(copy) if isinstance(value, nn.Parameter) else copy)
    network = fx.GraphModule(root, graph)
    drop_identities(network)
    make_functional(network)
    return network


def drop_identities(network: fx.GraphModule) -> None:
    """Remove nodes that do nothing in eval form: dropout, clones, casts to float32."""
    for node in nodes_of(network.graph):
        same_dtype = node.target is aten.to.dtype and node.args[1] is torch.float32
        if node.op == "call_function" and (node.target in IDENTITY or same_dtype):
            node.replace_all_uses_with(node.args[0])
            network.graph.erase_node(node)
    clean(network)


def make_functional(network: fx.GraphModule) -> None:
    """Replace in-place operators by plain ones.

    A fake-quantizer behind `relu_` would otherwise see its own input overwritten. `view` becomes
    `reshape`, since the graph was captured on NCHW memory and may be fed channels_last.
    """
    order = {node: index for index, node in enumerate(nodes_of(network.graph))}
    for node in nodes_of(network.graph):
        if node.target is aten.view.default:
            node.target = aten.reshape.default
        if node.target in OUT_OF_PLACE:
            node.target = OUT_OF_PLACE[node.target]
            for user in list(node.args[0].users):  # later readers mean the changed value
                if order[user] > order[node]:
                    user.replace_input_with(node.args[0], node)
    clean(network)
