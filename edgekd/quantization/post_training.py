"""Brings a calibrated network to int8 without training: equalize, round, correct.

Channels are equalized first (`edgekd.quantization.equalisation`). Then the layers follow in the
order in which they run (`edgekd.quantization.layer_rounding`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgekd.quantization.equalisation import equalise
from edgekd.quantization.layer_means import LayerMeans
from edgekd.quantization.layer_rounding import Rounded, keep_before
from edgekd.quantization.qat_network import QatNetwork, set_phase


@torch.no_grad()
def quantize(network: QatNetwork, images: Sequence[Tensor]) -> None:
    """Equalize, round and correct a calibrated network in place, and freeze its ranges (phase
    "frozen").

    `images`: the calibration images, batches float32 [n, channels, px, px] as `QatNetwork.forward`
    takes them.
    """
    equalise(network, images)
    keep_before(network)
    set_phase(network, "float")
    x = network.on_grid(torch.cat(list(images)))
    exact = LayerMeans(network)
    exact.run(x)
    set_phase(network, "frozen")
    Rounded(network, exact.means).run(x)
