"""Equalisation: channels that hardly move are scaled up before they are rounded, and down again by the next layer.

One scale serves all channels of an activation, so a channel that reaches a twentieth of the range has 13 of 256 codes.
Before a depthwise convolution, whose weights have a scale a channel, the exchange is free: multiply the weights and the
bias that make a channel by s, divide the depthwise weights that read it by s. Nagel et al. 2019 (arXiv 1906.04721,
section 4.1) do it for per-tensor weights; ReLU lets it through as it is, and ReLU6 where nothing comes near its 6.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from edgekd import graphs
from edgekd.quantizer import activation_of, is_compute
from edgekd.quantnet import Layer, QatNetwork, set_phase

# Ends of a channel that are tried, as shares of its peak: steps of 2^(1/4) down from 1.19, since other images go higher.
CLIPPED = tuple(2 ** (-step / 4) for step in range(-1, 16))
VALUES = 16384  # of a channel: of what lies above its 99.9th percentile, 16 are seen
# Of a channel. Channels that are all but dead would otherwise get weights so large that biases overflow.
LARGEST = 64.0
ACTIVATIONS = ("RELU", "RELU6", None)


def pairs(network: QatNetwork) -> list[tuple[Layer, Layer]]:
    """(the layer that makes the channels, the depthwise layer that alone reads them), where the exchange is exact."""
    nodes = {node.meta["edge"]: node for node in graphs.nodes_of(network.graph.graph) if "edge" in node.meta}
    makers = {layer.target: layer for layer in network.layers}
    found = []
    for reader in network.layers:
        maker = makers.get(reader.source)
        if maker is None or reader.op != "DEPTHWISE_CONV_2D":
            continue
        node, made_by = nodes[reader.source], nodes[reader.source].args[0]
        weight = graphs.getattr_path(network.graph, reader.weight)
        if (len(node.users) == 1 and len(made_by.users) == 1 and activation_of(made_by) in ACTIVATIONS
                and (activation_of(made_by) or _is_layer(made_by)) and network.edge(reader.source).fixed is None
                and len(weight) == len(graphs.getattr_path(network.graph, maker.weight))):
            found.append((maker, reader))
    return found


def _is_layer(node: fx.Node) -> bool:
    return is_compute(node) and len(node.args) > 2


class _Values(fx.Interpreter):
    """Runs the graph and keeps some of each channel's values, float32 [channels, n], of the edges in `wanted`."""

    def __init__(self, network: QatNetwork, wanted: set[str]) -> None:
        super().__init__(network.graph)
        self.wanted = wanted
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> object:
        out = super().run_node(n)
        if n.meta.get("edge") in self.wanted:
            every = max(1, out[:, 0].numel() // VALUES)
            self.values[n.meta["edge"]] = out.movedim(1, 0).flatten(1)[:, ::every].clone()
        return out


def best_factors(values: Tensor, top: float) -> Tensor:
    """The factor for each channel, float32 [channels], 1 to LARGEST, with the least squared error of clipping and rounding.

    `values`: float32 [channels, n]. Scaled by s, a channel is clipped at top / s and rounded in steps of top / s / 255,
    whose error is uniform: step^2 / 12 (Widrow). What is exactly 0, as after a ReLU, is rounded without error.
    """
    peaks = values.abs().amax(1)
    moving = (values != 0).float().mean(1)
    best, least = torch.ones(len(values)), torch.full((len(values),), torch.inf)
    for share in CLIPPED:
        ends = (peaks * share).clamp(top / LARGEST, top)
        clipped = (values.abs() - ends[:, None]).clamp(min=0).square().mean(1)
        error = clipped + moving * (ends / 255) ** 2 / 12
        better = error < least
        best, least = torch.where(better, top / ends, best), torch.where(better, error, least)
    return best


@torch.no_grad()
def equalise(network: QatNetwork, x: Tensor) -> None:
    """Scale every channel of a calibrated network that allows it up to its edge's range, in place; no answer changes.

    `x`: as `QatNetwork.on_grid` gives it: the calibration images. Ranges stay as they are.
    """
    found = pairs(network)
    set_phase(network, "float")
    seen = _Values(network, {reader.source for _, reader in found})
    seen.run(x)
    for maker, reader in found:
        values = seen.values[reader.source]
        factors = best_factors(values, float(values.abs().max()))
        for path, by in ((maker.weight, factors), (maker.bias, factors), (reader.weight, 1 / factors)):
            parameter = graphs.getattr_path(network.graph, path)
            parameter.mul_(by.reshape(-1, *[1] * (parameter.ndim - 1)))
