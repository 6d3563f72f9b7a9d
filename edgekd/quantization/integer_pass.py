"""Runs a finished int8 network exactly, with its products of codes summed in float32.

Two int8 codes have an integer product, and float32 holds every integer up to 2^24. A layer whose
sums cannot leave that range, whatever its input, is exact in float32 in any order of summation. All
else (bias, scales, rounding, activations, sums of maps) is computed in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from edgekd.networks.further_outputs import AllOutputs
from edgekd.quantization.fakequant import ActivationFakeQuant, PerChannelWeightFakeQuant
from edgekd.quantization.graphs import Node, nodes_of
from edgekd.quantization.qat_network import QatNetwork, exact
from edgekd.tflite.int8_rules import INT8_MAX, INT8_MIN

aten = torch.ops.aten

# The first integer after which float32 leaves integers out.
EXACT_IN_FLOAT32 = 2.0**24
# Pixels of the images of one pass: 5 images at 224 px, 64 at 64 px. Maps of more do not fit into
# the caches of a CPU, which took a third longer.
PIXELS = 2**18


def answers(network: QatNetwork, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Logits of a finished network as integer arithmetic gives them, up to one rounding of each
    sum: uint8 [n, px, px, channels] (NHWC) to float32 [n, classes].
    """
    run = IntegerPass(exact(network))
    rows = []
    with torch.no_grad():
        for start in range(0, len(images), max(1, PIXELS // network.px**2)):
            part = images[start : start + max(1, PIXELS // network.px**2)]
            pixels = torch.from_numpy(part.transpose(0, 3, 1, 2).copy(order="C"))
            rows.append(run.run(network.pixels(pixels).double()).numpy())
    return np.concatenate(rows).astype(np.float32)


def further_answers(
    network: QatNetwork, images: npt.NDArray[np.uint8]
) -> dict[str, npt.NDArray[np.float32]]:
    """{name: values} that a finished network gives beside its logits, float32 [n, ...] in torch's
    order.
    """
    run = IntegerPass(exact(network))
    rows: dict[str, list[npt.NDArray[np.float32]]] = {}
    with torch.no_grad():
        for image in images:
            pixels = torch.from_numpy(image.transpose(2, 0, 1)[None].copy(order="C"))
            run.run(network.pixels(pixels).double())
            for name, value in run.further.items():
                rows.setdefault(name, []).append(value.numpy().astype(np.float32))
    return {name: np.concatenate(parts) for name, parts in rows.items()}


class IntegerPass(AllOutputs):
    """Runs the graph of a float64 network in phase "frozen" (`qat_network.exact`).

    `run` takes what the graph takes and returns what it returns, float64. A layer whose sums might
    not fit into float32 is computed in float64.

    The value of an edge that only layers read is its codes less the zero point, float32; that of
    any other edge is the real number, float64.
    """

    def __init__(self, network: QatNetwork) -> None:
        super().__init__(network.graph)
        self._weights: dict[str, PerChannelWeightFakeQuant] = {}
        self._edges: dict[str, ActivationFakeQuant] = {}
        for name, module in network.graph.named_modules(remove_duplicate=False):
            if isinstance(module, PerChannelWeightFakeQuant):
                self._weights[name] = module
            elif isinstance(module, ActivationFakeQuant):
                self._edges[name] = module
        self._summed = {n for n in nodes_of(network.graph.graph) if self._is_layer(n)}
        self._as_codes = {
            n
            for n in nodes_of(network.graph.graph)
            if n.target in self._edges and n.users and self._summed.issuperset(n.users)
        }

    def run_node(self, n: Node) -> Any:
        if n in self._summed:
            return self._layer(n)
        if n.op == "call_module" and n.target in self._edges:
            return self._edge(n)
        return super().run_node(n)

    def _edge(self, n: Node) -> Tensor:
        """One edge on its int8 grid."""
        (x,) = n.args
        edge = self._edges[str(n.target)]
        scale, zero_point = float(edge.scale), int(edge.zero_point)
        low, high = INT8_MIN - zero_point, INT8_MAX - zero_point
        codes: Tensor = self.env[x].div(scale).round_().clamp_(low, high)
        return codes.float() if n in self._as_codes else codes.mul_(scale)

    def _layer(self, n: Node) -> Tensor:
        """One layer's output before its activation, float64."""
        x, weight, bias, *options = n.args
        source = float(self._edges[x.target].scale)
        centred = self.env[x]
        if x not in self._as_codes:
            # In float32 the quotient is within 2^-15 of the code that it rounds to.
            centred = centred.float().div_(source).round_()
        rows = (1, -1, 1, 1) if n.target is aten.conv2d.default else (-1,)
        scales = self._weights[weight.target].scale.double()  # as its own node has just used it
        step = (scales * source).expand(len(self.env[bias])).reshape(rows)
        codes = self.env[weight] / scales.reshape(-1, *[1] * (self.env[weight].ndim - 1))
        exact = torch.float32 if self._fits(codes, self._edges[x.target]) else torch.float64
        sums = n.target(centred.to(exact), codes.round_().to(exact), None, *options)
        return torch.addcmul(self.env[bias].reshape(rows), sums.double(), step)

    def _is_layer(self, n: Node) -> bool:
        """Whether a node is a layer between an edge and a weight on their int8 grids."""
        if n.target not in (aten.conv2d.default, aten.linear.default) or len(n.args) < 3:
            return False
        x, weight, bias = n.args[:3]
        return (
            isinstance(x, fx.Node)
            and isinstance(weight, fx.Node)
            and isinstance(bias, fx.Node)
            and x.target in self._edges
            and weight.target in self._weights
        )

    def _fits(self, codes: Tensor, edge: ActivationFakeQuant) -> bool:
        """Whether no sum of the layer's products can reach EXACT_IN_FLOAT32."""
        zero_point = int(edge.zero_point)
        largest = max(INT8_MAX - zero_point, zero_point - INT8_MIN)
        return float(codes.abs().flatten(1).sum(1).max()) * largest < EXACT_IN_FLOAT32
