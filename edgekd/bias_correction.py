"""Bias correction: what rounding adds to a layer's mean output is taken off its bias again, without any training.

Rounded weights and inputs shift the mean of each output channel, and the shifts add up from layer to layer. Following
Nagel et al. 2019 (arXiv 1906.04721, section 4.2, its empirical form), layers are corrected in the order in which they run,
each fed by layers that are corrected already: b += E[float output] - E[int8 output], per channel, before the activation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from edgekd import graphs
from edgekd.quantnet import QatNetwork, set_phase


class _Means(fx.Interpreter):
    """Runs the graph and keeps the mean, float32 [channels], of each layer's output before its activation."""

    def __init__(self, network: QatNetwork) -> None:
        super().__init__(network.graph)
        self.biases = {layer.bias for layer in network.layers}
        self.means: dict[str, Tensor] = {}

    def bias_of(self, node: fx.Node) -> str | None:
        """The path of the bias that a layer's node adds; None where the node is no layer's."""
        rounded = node.args[2] if node.op == "call_function" and len(node.args) > 2 else None
        if not (isinstance(rounded, fx.Node) and rounded.op == "call_module" and rounded.args):
            return None
        bias = rounded.args[0]
        return str(bias.target) if isinstance(bias, fx.Node) and bias.target in self.biases else None

    def run_node(self, n: fx.Node) -> Any:
        out, bias = super().run_node(n), self.bias_of(n)
        return out if bias is None else self.layer(bias, out)

    def layer(self, bias: str, out: Tensor) -> Tensor:
        """`out`: float32 [n, channels, ...]; what the graph goes on with."""
        self.means[bias] = out.mean([axis for axis in range(out.ndim) if axis != 1])
        return out


class _Corrected(_Means):
    """Moves each bias so that the layer's means are `wanted`, and goes on with the corrected output."""

    def __init__(self, network: QatNetwork, wanted: Mapping[str, Tensor]) -> None:
        super().__init__(network)
        self.wanted = wanted

    def layer(self, bias: str, out: Tensor) -> Tensor:
        super().layer(bias, out)
        missing = self.wanted[bias] - self.means[bias]
        graphs.getattr_path(self.module, bias).add_(missing)
        return out + missing.reshape(-1, *[1] * (out.ndim - 2))


@torch.no_grad()
def correct_biases(network: QatNetwork, images: Tensor) -> None:
    """Correct every bias of a calibrated network, in place, and freeze its ranges (phase "frozen").

    `images`: float32 [n, channels, px, px] as `QatNetwork.forward` takes them, all in one batch: the calibration images.
    """
    x = network.on_grid(images)
    set_phase(network, "float")
    exact = _Means(network)
    exact.run(x)
    set_phase(network, "frozen")
    _Corrected(network, exact.means).run(x)
