"""Runs a finished int8 network exactly, with its products of codes summed in float32.

Two int8 codes have an integer product, and float32 holds every integer up to 2^24. A layer whose
sums cannot leave that range, whatever its input, is exact in float32 in any order of summation. All
else (bias, scales, rounding, activations, sums of maps) is computed in float64, or gives the codes
that float64 gives (`edgekd.quantization.rounded_layers`).
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from edgekd.networks.further_outputs import AllOutputs
from edgekd.quantization.fakequant import ActivationFakeQuant, PerChannelWeightFakeQuant
from edgekd.quantization.graphs import Node, nodes_of
from edgekd.quantization.qat_network import QatNetwork
from edgekd.quantization.rounded_layers import UNBOUNDED, Constants, RoundedLayer, bounds_of
from edgekd.tflite.int8_rules import INT8_MAX, INT8_MIN
from edgekd.training import threads

aten = torch.ops.aten

# The first integer after which float32 leaves integers out.
EXACT_IN_FLOAT32 = 2.0**24
# Pixels of the images of one pass: 1 image at 224 px, 16 at 64 px. The maps then fit into the
# caches of a CPU, and into blocks that the C library keeps (`edgekd.core.allocator`): with 5 images
# at 224 px, a third of the time went into clearing pages.
PIXELS = 2**16
# The same operator on its input's own memory.
IN_PLACE = {
    aten.hardtanh.default: aten.hardtanh_.default,
    aten.relu.default: aten.relu_.default,
}


def exact(network: QatNetwork) -> QatNetwork:
    """A copy that computes in float64.

    float32 sums of products are off by about 1e-4 of an output's step. That changes one code in a
    thousand in each layer. Integer arithmetic, and so the device, has no such error.
    """
    return copy.deepcopy(network).double()


def answers(network: QatNetwork, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Logits of a finished network as integer arithmetic gives them, up to one rounding of each
    sum: uint8 [n, px, px, channels] (NHWC) to float32 [n, classes].
    """
    whole = IntegerPass(exact(network))
    count = max(1, PIXELS // network.px**2)

    def some(start: int) -> npt.NDArray[np.float64]:
        with torch.no_grad():
            pixels = network.pixels(_channels_last(images[start : start + count]))
            found: Tensor = copy.copy(whole).run(pixels.double())
        return found.numpy()

    parts = threads.in_order(some, range(0, len(images), count))
    return np.concatenate(parts).astype(np.float32)


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
            run.run(network.pixels(_channels_last(image[None])).double())
            for name, value in run.further.items():
                rows.setdefault(name, []).append(value.numpy().astype(np.float32))
    return {name: np.concatenate(parts) for name, parts in rows.items()}


def _channels_last(images: npt.NDArray[np.uint8]) -> Tensor:
    """Images [n, h, w, channels] as torch counts their axes, in the order of their memory.

    Layers keep this order. Depthwise ones, and products with a number for each channel, take half
    of the time in it.
    """
    return torch.from_numpy(np.array(images, order="C")).permute(0, 3, 1, 2)


class IntegerPass(AllOutputs):
    """Runs the graph of a float64 network in phase "frozen" (`exact`).

    `run` takes what the graph takes and returns what it returns, float64. A layer whose sums might
    not fit into float32 is computed in float64. Weights and other constants are prepared once; of
    several threads, each runs a shallow copy.

    The value of an edge that only layers read is its codes less the zero point, float32; that of
    any other edge is the real number, float64.
    """

    def __init__(self, network: QatNetwork) -> None:
        super().__init__(network.graph)
        nodes = nodes_of(network.graph.graph)
        self._weights: dict[str, PerChannelWeightFakeQuant] = {}
        self._edges: dict[str, ActivationFakeQuant] = {}
        for name, module in network.graph.named_modules(remove_duplicate=False):
            if isinstance(module, PerChannelWeightFakeQuant):
                self._weights[name] = module
            elif isinstance(module, ActivationFakeQuant):
                self._edges[name] = module
        fixed = _without_input(nodes)
        summed = {n for n in nodes if n not in fixed and self._is_layer(n, fixed)}
        self._padded = {n for n in nodes if self._is_padded(n)}
        self._as_codes: set[Node] = set()
        for n in reversed(nodes):
            borders = self._padded & self._as_codes
            pads = {user for user in n.users if user.users and borders >= set(user.users)}
            if n.target in self._edges and n.users and pads | summed >= set(n.users):
                self._as_codes.add(n)
        # Values in memory of their own that one node reads, which may therefore overwrite them.
        self._passing: set[Node] = set()
        for n in nodes:
            if n in summed or (n.target in IN_PLACE and n.args[0] in self._passing):
                self._passing |= {n} if len(n.users) == 1 else set()
        self._layers: dict[Node, Constants] = {}
        # {edge: what rounds the sums of the layer that writes it}, and that layer and its
        # activation, which hand the sums on.
        self._rounded: dict[Node, RoundedLayer] = {}
        self._summing: set[Node] = set()
        self.env = {}
        with torch.no_grad():
            for n in nodes:
                if n in fixed:
                    self.env[n] = self.run_node(n)
            self._layers |= {n: self._constants(n) for n in summed}
            for n in nodes:
                if n.target in self._edges:
                    self._round_at_once(n)
        self._fixed = self.env

    def run(self, *args: Any, **_options: Any) -> Any:
        return super().run(*args, initial_env=dict(self._fixed))

    def run_node(self, n: Node) -> Any:
        if n in self._layers:
            return self._sums(n) if n in self._summing else self._layer(n)
        if n in self._summing:
            return self.env[n.args[0]]
        if n.op == "call_module" and n.target in self._edges:
            return self._edge(n)
        if n.target in IN_PLACE and n.args[0] in self._passing:
            return IN_PLACE[n.target](self.env[n.args[0]], *n.args[1:])
        return super().run_node(n)

    def _edge(self, n: Node) -> Tensor:
        """One edge on its int8 grid."""
        edge = self._edges[str(n.target)]
        (x,) = n.args
        if n in self._padded and x.args[0] in self._as_codes:
            return self.env[x]
        scale = float(edge.scale)
        if n in self._rounded:
            codes = self._rounded[n].codes(self.env[x])
        else:
            divide = Tensor.div_ if x in self._passing else Tensor.div
            codes = divide(self.env[x], scale).round_().clamp_(*_grid(edge))
        return codes.float() if n in self._as_codes else codes.double().mul_(scale)

    def _layer(self, n: Node) -> Tensor:
        """One layer's output before its activation, float64."""
        constants, sums = self._layers[n], self._sums(n).double()
        return torch.addcmul(constants.bias, sums, constants.step, out=sums)

    def _sums(self, n: Node) -> Tensor:
        """The sums of a layer's products of codes: whole numbers, exact in their dtype."""
        x, _, _, *options = n.args
        constants = self._layers[n]
        centred = self.env[x]
        if x not in self._as_codes:
            # In float32 the quotient is within 2^-15 of the code that it rounds to.
            centred = centred.float().div_(float(self._edges[x.target].scale)).round_()
        sums: Tensor = n.target(centred.to(constants.codes.dtype), constants.codes, None, *options)
        return sums

    def _constants(self, n: Node) -> Constants:
        """What the layer `n` computes with."""
        x, weight, bias = n.args[:3]
        value, shift = self.env[weight], self.env[bias]
        scales = self._weights[weight.target].scale.double()  # as its own node has just used it
        step = (scales * float(self._edges[x.target].scale)).expand(len(shift))
        codes = (value / scales.reshape(-1, *[1] * (value.ndim - 1))).round_()
        dtype = torch.float32 if self._fits(codes, self._edges[x.target]) else torch.float64
        rows = (1, -1, 1, 1) if n.target is aten.conv2d.default else (-1,)
        return Constants(codes.to(dtype), step.reshape(rows), shift.reshape(rows))

    def _round_at_once(self, n: Node) -> None:
        """Let the edge `n` round what its layer sums, where nothing else reads the layer's output
        or its activation, and float32 decides most codes.
        """
        made = n.args[0]
        behind = bounds_of(made)
        layer, bounds = (made, UNBOUNDED) if behind is None else (made.args[0], behind)
        constants = self._layers.get(layer)
        if (
            constants is None
            or layer.target is not aten.conv2d.default
            or constants.codes.dtype != torch.float32
            or any(len(part.users) > 1 for part in (made, layer))
        ):
            return
        edge = self._edges[str(n.target)]
        rounding = RoundedLayer(constants, bounds, float(edge.scale), _grid(edge))
        if rounding.in_float32:
            self._rounded[n] = rounding
            self._summing |= {made, layer}

    def _is_padded(self, n: Node) -> bool:
        """Whether the edge `n` is a border of zeros around another edge of the same range."""
        if n.target not in self._edges or n.args[0].target is not aten.pad.default:
            return False
        x, _, *how = n.args[0].args
        return (
            x.target in self._edges
            and how in ([], ["constant"], ["constant", None], ["constant", 0.0])
            and self._edges[x.target].range == self._edges[n.target].range
        )

    def _is_layer(self, n: Node, fixed: set[Node]) -> bool:
        """Whether a node is a layer between an edge and a weight on their int8 grids. `fixed`:
        the nodes whose values do not depend on the image.
        """
        if n.target not in (aten.conv2d.default, aten.linear.default) or len(n.args) < 3:
            return False
        x, weight, bias = n.args[:3]
        return (
            isinstance(x, fx.Node)
            and x.target in self._edges
            and {weight, bias} <= fixed
            and weight.target in self._weights
        )

    def _fits(self, codes: Tensor, edge: ActivationFakeQuant) -> bool:
        """Whether no sum of the layer's products can reach EXACT_IN_FLOAT32."""
        zero_point = int(edge.zero_point)
        largest = max(INT8_MAX - zero_point, zero_point - INT8_MIN)
        return float(codes.abs().flatten(1).sum(1).max()) * largest < EXACT_IN_FLOAT32


def _grid(edge: ActivationFakeQuant) -> tuple[int, int]:
    """The lowest and the highest code of an edge, less its zero point."""
    zero_point = int(edge.zero_point)
    return INT8_MIN - zero_point, INT8_MAX - zero_point


def _without_input(nodes: list[Node]) -> set[Node]:
    """The nodes whose values do not depend on the graph's input. `nodes`: all, in order."""
    found: set[Node] = set()
    for n in nodes:
        if n.op not in ("placeholder", "output") and found.issuperset(n.all_input_nodes):
            found.add(n)
    return found
