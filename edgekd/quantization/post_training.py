"""Brings a calibrated network to int8 without training: equalize, round, correct.

Channels are equalized first (`edgekd.quantization.equalisation`). Then the layers follow in the
order in which they run, each fed by layers that are done. A layer's weights are rounded for the
least error of its output (`edgekd.quantization.gptq_rounding`), and its bias takes off what
rounding still adds to the mean of each output channel (`edgekd.quantization.layer_means`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from edgekd.quantization import gptq_rounding, graphs
from edgekd.quantization.equalisation import equalise
from edgekd.quantization.fakequant import PerChannelWeightFakeQuant
from edgekd.quantization.layer_means import Corrected, LayerMeans
from edgekd.quantization.qat_network import QatNetwork, set_phase
from edgekd.quantization.qat_structure import Layer


class _Rounded(Corrected):
    """Rounds each layer's weights before its bias is corrected."""

    def run_layer(self, n: fx.Node, layer: Layer) -> Tensor:
        weight = graphs.getattr_path(self.module, layer.weight)
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


@torch.no_grad()
def quantize(network: QatNetwork, images: Sequence[Tensor]) -> None:
    """Equalize, round and correct a calibrated network in place, and freeze its ranges (phase
    "frozen").

    `images`: the calibration images, batches float32 [n, channels, px, px] as `QatNetwork.forward`
    takes them.
    """
    equalise(network, images)
    set_phase(network, "float")
    x = network.on_grid(torch.cat(list(images)))
    exact = LayerMeans(network)
    exact.run(x)
    set_phase(network, "frozen")
    _Rounded(network, exact.means).run(x)
