"""Biases that fit a network of which less is rounded than in the int8 file.

Calibration without training corrects biases for what int8 adds to the means of layers
(`layer_means`). Where operators stay in float, or activations have 16 bits, there is less to take
off, and the biases of the int8 file would add an error of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgekd.quantization import graphs
from edgekd.quantization.layer_means import Corrected, LayerMeans
from edgekd.quantization.qat_network import QatNetwork, set_phase
from edgekd.quantization.qat_structure import Layer
from edgekd.quantization.rerun import phase

IMAGES = 16  # calibration images that biases are corrected on, as many as `quick_rounding` holds


class FittingBiases:
    """Corrects the biases of one restored network, in place, for one choice after another.

    The network of a training keeps its own, which were trained with int8 in the loop.
    """

    def __init__(self, network: QatNetwork, images: npt.NDArray[np.uint8]) -> None:
        """`images`: calibration images, uint8 [n, px, px, channels]. Leaves the weights and biases
        in the network as they were before calibration, if it was not trained.
        """
        self.network = network
        shown = torch.from_numpy(np.array(images[:IMAGES])).permute(0, 3, 1, 2)
        self.pixels = network.pixels(shown)
        self.rounded = {
            layer.weight: graphs.getattr_path(network.graph, layer.weight).detach().clone()
            for layer in network.layers
        }
        self._put(network.before)
        set_phase(network, "float")
        means = LayerMeans(network)
        with torch.no_grad():
            means.run(self.pixels)
        self.wanted = means.means

    def correct(self, layers: Iterable[Layer], ranges: Iterable[str]) -> None:
        """Put the weights and biases in place that fit a choice of what is not rounded.

        `layers`: those whose weights stay in float. `ranges`: paths of the fake-quantizers of
        tensors that do. Leaves the network in phase "frozen".
        """
        real = list(layers)
        paths = [*ranges, *(layer.quantizer for layer in real)]
        set_phase(self.network, "frozen")
        if not self.network.before:
            return
        own = {layer.weight for layer in real}
        self._put({path: value for path, value in self.rounded.items() if path not in own})
        before = self.network.before.items()
        self._put({path: v for path, v in before if path in own or path not in self.rounded})
        with torch.no_grad(), phase(self.network, paths, "float"):
            Corrected(self.network, self.wanted).run(self.pixels)

    @torch.no_grad()
    def _put(self, parameters: Mapping[str, Tensor]) -> None:
        for path, value in parameters.items():
            graphs.getattr_path(self.network.graph, path).copy_(value)
