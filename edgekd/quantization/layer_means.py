"""The mean of each layer's output, and biases that bring it back after rounding.

A bias takes off what rounding adds to the mean of its output channel (Nagel et al. 2019, arXiv
1906.04721, section 4.2, the empirical form): b += E[float output] - E[int8 output], before the
activation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from edgekd.quantization import graphs
from edgekd.quantization.qat_network import QatNetwork
from edgekd.quantization.qat_structure import Layer


class LayerMeans(fx.Interpreter):
    """Runs the graph and keeps the mean of each layer's output before its activation.

    `means`: {path of the layer's bias: float32 [channels]}.
    """

    def __init__(self, network: QatNetwork) -> None:
        super().__init__(network.graph)
        self.layers = {layer.bias: layer for layer in network.layers}
        self.means: dict[str, Tensor] = {}

    def layer_of(self, node: fx.Node) -> Layer | None:
        """The layer that a node computes, or None."""
        rounded = node.args[2] if node.op == "call_function" and len(node.args) > 2 else None
        if not (isinstance(rounded, fx.Node) and rounded.op == "call_module" and rounded.args):
            return None
        bias = rounded.args[0]
        return self.layers.get(str(bias.target)) if isinstance(bias, fx.Node) else None

    def run_node(self, n: fx.Node) -> Any:
        layer = self.layer_of(n)
        return super().run_node(n) if layer is None else self.run_layer(n, layer)

    def run_layer(self, n: fx.Node, layer: Layer) -> Tensor:
        """Run one layer and return its output, float32 [n, channels, ...] or [..., channels]."""
        out: Tensor = super().run_node(n)
        channels = self.axis(layer, out)
        self.means[layer.bias] = out.mean([axis for axis in range(out.ndim) if axis != channels])
        return out

    def axis(self, layer: Layer, out: Tensor) -> int:
        """The axis of the channels in a layer's output: the last one of a linear layer's."""
        is_linear = graphs.getattr_path(self.module, layer.weight).ndim == 2
        return out.ndim - 1 if is_linear else 1


class Corrected(LayerMeans):
    """Moves each layer's bias so that its output has the mean `wanted`, one layer after another."""

    def __init__(self, network: QatNetwork, wanted: Mapping[str, Tensor]) -> None:
        super().__init__(network)
        self.wanted = wanted

    def run_layer(self, n: fx.Node, layer: Layer) -> Tensor:
        out = super().run_layer(n, layer)
        missing = self.wanted[layer.bias] - self.means[layer.bias]
        graphs.getattr_path(self.module, layer.bias).add_(missing)
        # In place: of the first maps of 24 images at 224 px, a copy would take 115 MB.
        return out.add_(missing.reshape(-1, *[1] * (out.ndim - 1 - self.axis(layer, out))))
