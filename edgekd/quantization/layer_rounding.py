"""Rounds one layer after another, each fed by layers that are done, and corrects their biases.

A layer's weights are rounded for the least error of its output
(`edgekd.quantization.gptq_rounding`), and its bias takes off what rounding still adds to the mean
of each output channel (`edgekd.quantization.layer_means`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from edgekd.quantization import gptq_rounding, graphs
from edgekd.quantization.fakequant import PerChannelWeightFakeQuant
from edgekd.quantization.layer_means import Corrected
from edgekd.quantization.qat_network import QatNetwork
from edgekd.quantization.qat_structure import Layer


def keep_before(network: QatNetwork, taps: int | None = None) -> None:
    """Keep what `Rounded` is about to change in `network.before`. `taps`: as there."""
    for layer in network.layers:
        weight, bias = (
            graphs.getattr_path(network.graph, path).detach() for path in (layer.weight, layer.bias)
        )
        network.before[layer.bias] = bias.clone()
        if taps is None or weight[0].numel() <= taps:
            network.before[layer.weight] = weight.clone()


class Rounded(Corrected):
    """Rounds the weights of layers for the least error of their outputs, before each bias is
    corrected.

    `taps`: the largest number of weights of an output channel that is rounded so; layers with more
    keep their weights, which are then rounded to nearest.
    """

    def __init__(
        self, network: QatNetwork, wanted: Mapping[str, Tensor], taps: int | None = None
    ) -> None:
        super().__init__(network, wanted)
        self.taps = taps

    def run_layer(self, n: fx.Node, layer: Layer) -> Tensor:
        weight = graphs.getattr_path(self.module, layer.weight)
        if self.taps is not None and weight[0].numel() > self.taps:
            return super().run_layer(n, layer)
        quantizer = self.module.get_submodule(layer.quantizer)
        assert isinstance(quantizer, PerChannelWeightFakeQuant)
        x, rounded = n.args[:2]
        assert isinstance(x, fx.Node)
        assert isinstance(rounded, fx.Node)
        weight.copy_(_on_grid(self.env[x], weight, quantizer.scales(weight), n.args))
        self.env[rounded] = quantizer(weight)
        return super().run_layer(n, layer)


def _on_grid(x: Tensor, weight: Tensor, scale: Tensor, args: tuple[Any, ...]) -> Tensor:
    """A layer's weights rounded for its inputs `x`. `args`: its node's x, weight, bias, stride,
    padding, ...
    """
    if weight.ndim == 2:
        x, kernel, stride, dilation, groups = (
            x.reshape(-1, x.shape[-1])[:, :, None, None],
            (1, 1),
            (1, 1),
            (1, 1),
            1,
        )
    else:
        kernel = (weight.shape[2], weight.shape[3])
        stride, dilation = (tuple(args[at]) if len(args) > at else (1, 1) for at in (3, 5))
        groups = int(args[6]) if len(args) > 6 else 1
    moments = gptq_rounding.covariance(x, kernel, stride, dilation, groups)
    rows = weight.flatten(1).unflatten(0, (groups, -1))
    return gptq_rounding.round_weights(
        rows, scale.expand(len(weight)).reshape(rows.shape[:2]), moments
    ).reshape(weight.shape)
