"""Brings a float network to int8 in one pass over the calibration images, and a second over some.

1. In float: the range of every edge, and on the first images the mean of each layer's output.
2. Channels of linear streams are evened out (`equalisation.even`). What that does to the ranges and
   to the means is known, so no further pass is needed.
3. In int8, on the first images: layers with few weights for each output channel, which are the
   first and the depthwise ones, are rounded for the least error of their outputs, all others to
   nearest. Each layer's bias takes off what rounding adds to the mean of its output.

`edgekd.quantization.post_training` rounds better where weights are few for the calibration images,
and takes several times as long. Channels before depthwise layers are not scaled here: their ReLU6
then clips values of other images. On photographs that cost EfficientNet-Lite0 as much as it gained.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from edgekd.core.allocator import keeping_large_blocks
from edgekd.core.errors import DataError
from edgekd.quantization import equalisation
from edgekd.quantization.layer_means import LayerMeans
from edgekd.quantization.layer_rounding import Rounded, keep_before
from edgekd.quantization.qat_network import QatNetwork, check_finite, set_phase
from edgekd.quantization.qat_structure import Layer

# Pixels of the images of one pass: 24 images at 224 px. With 41, a conversion of
# EfficientNet-Lite0 took 2.1 GiB.
PIXELS = 24 * 224**2
# A first layer has 27 weights for each output channel, a depthwise one 9 or 25. They are rounded
# well in little time, and cause most of the error: their inputs are alike at neighbouring pixels,
# so that the errors of their weights add up. Signal to error of EfficientNet-Lite's logits on 70
# photographs, to nearest and with this: Lite0 22.2 and 23.0 dB, Lite1 20.8 and 23.5 dB, Lite2 22.8
# and 23.3 dB.
FEW_TAPS = 49


class _Seen(LayerMeans):
    """Runs the graph in phase "calibrate", and keeps what each channel of some edges reaches.

    `extremes`: {edge: smallest and largest value of each channel, float32 [2, channels]}.
    `averaging`: whether the means of layers are kept, too.
    """

    def __init__(self, network: QatNetwork, wanted: frozenset[str]) -> None:
        super().__init__(network)
        self.wanted = wanted
        self.averaging = True
        self.extremes: dict[str, Tensor] = {}

    def layer_of(self, node: fx.Node) -> Layer | None:
        return super().layer_of(node) if self.averaging else None

    def run_node(self, n: fx.Node) -> object:
        out = super().run_node(n)
        name = n.meta.get("edge")
        if name in self.wanted:
            axes = [axis for axis in range(out.ndim) if axis != 1]
            low, high = out.amin(axes), out.amax(axes)
            if (before := self.extremes.get(name)) is not None:
                low, high = torch.minimum(low, before[0]), torch.maximum(high, before[1])
            self.extremes[name] = torch.stack([low, high])
        return out


@torch.no_grad()
@keeping_large_blocks()
def quantize(network: QatNetwork, images: Sequence[Tensor]) -> None:
    """Calibrate, even out, round and correct a prepared network in place, and freeze its ranges.

    `images`: the calibration images, batches float32 [n, channels, px, px] as `QatNetwork.forward`
    takes them. Raises DataError when there are none, and TrainingDiverged when a range is not
    finite.
    """
    if not images:
        raise DataError(
            "there are no calibration images", "give at least one image of the training split"
        )
    first, *others = torch.cat(list(images)).split(max(1, PIXELS // network.px**2))
    streams = equalisation.streams(network)
    set_phase(network, "calibrate")
    seen = _Seen(network, frozenset().union(*(stream.edges for stream in streams)))
    seen.run(network.on_grid(first))
    wanted, seen.averaging = seen.means, False
    for batch in others:
        seen.run(network.on_grid(batch))
    check_finite(network)
    for stream in streams:
        factors = equalisation.even(network, stream, seen.extremes)
        for maker in stream.makers:
            wanted[maker.bias] = wanted[maker.bias] * factors
        for name in stream.edges:
            network.edge(name).forget()
            network.edge(name).observe(seen.extremes[name] * factors)
    keep_before(network, FEW_TAPS)
    set_phase(network, "frozen")
    Rounded(network, wanted, FEW_TAPS).run(network.on_grid(first))
