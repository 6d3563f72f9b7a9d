"""Equalization: scales weak channels up before they are rounded, and down again in what reads them.

All channels of an activation share one scale, so a channel that reaches a twentieth of the range
has only 13 of the 256 codes. Multiply the weights and the bias that make a channel by s, and divide
the weights that read it by s: the network is the same, with finer codes (Nagel et al. 2019, arXiv
1906.04721, section 4.1). Before a depthwise convolution, whose weights have a scale for each
channel, this costs nothing. In a linear stream the convolutions that read it are then rounded more
coarsely. ReLU does not change under the scaling, nor does ReLU6 where no value comes near 6.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, fx

from edgekd.quantization import graphs
from edgekd.quantization.op_limits import activation_of
from edgekd.quantization.qat_network import QatNetwork, calibrate, set_phase
from edgekd.quantization.qat_structure import Layer

# A channel may fill the range up to this factor, since other images go higher. Clipping rare values
# for finer steps cost more than it gained: EfficientNet-Lite0's answers on X-rays moved by 0.35,
# and by 0.24 without equalization. Clipping removes signal from a whole unusual image and does not
# average out, as rounding does.
HEADROOM = 2**0.25
# The largest factor. Nearly dead channels would otherwise get weights so large that biases
# overflow.
LARGEST = 64.0
# Exponent on the ratio of the largest peak to a channel's: one half, as in SmoothQuant (Xiao et al.
# 2023, arXiv 2211.10438). 1 was 4 % worse.
POWER = 0.5
TINY = 1e-12  # in place of a peak of 0: a channel, or an edge, that is always 0


def pairs(network: QatNetwork) -> list[tuple[Layer, Layer]]:
    """(the layer that makes the channels, the depthwise layer that alone reads them).

    Between the two there is a ReLU or a ReLU6.
    """
    nodes = _edges(network)
    makers = {layer.target: layer for layer in network.layers}
    found = []
    for reader in network.layers:
        maker = makers.get(reader.source)
        if maker is None or reader.op != "DEPTHWISE_CONV_2D":
            continue
        node, made_by = nodes[reader.source], nodes[reader.source].args[0]
        weight = graphs.getattr_path(network.graph, reader.weight)
        if (
            len(node.users) == 1
            and len(made_by.users) == 1
            and activation_of(made_by) in ("RELU", "RELU6")
            and network.edge(reader.source).fixed is None
            and len(weight) == len(graphs.getattr_path(network.graph, maker.weight))
        ):
            found.append((maker, reader))
    return found


def _edges(network: QatNetwork) -> dict[str, graphs.Node]:
    """The node of each edge's fake-quantizer, by the name of the edge."""
    return {
        node.meta["edge"]: node
        for node in graphs.nodes_of(network.graph.graph)
        if "edge" in node.meta
    }


class _Peaks(fx.Interpreter):
    """Runs the graph and keeps the largest |value| of each channel, float32 [channels], of some
    edges.
    """

    def __init__(self, network: QatNetwork, wanted: set[str]) -> None:
        super().__init__(network.graph)
        self.wanted = wanted
        self.peaks: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> object:
        out = super().run_node(n)
        if n.meta.get("edge") in self.wanted:
            self.peaks[n.meta["edge"]] = out.abs().amax(
                [axis for axis in range(out.ndim) if axis != 1]
            )
        return out


def free_factors(peaks: Tensor) -> Tensor:
    """The factor, 1 to LARGEST, with which each channel fills the range up to HEADROOM.

    `peaks`: the largest |value| of each channel, float32 [channels].
    """
    return (peaks.max().clamp(min=TINY) / (peaks * HEADROOM).clamp(min=TINY)).clamp(1, LARGEST)


@dataclasses.dataclass(frozen=True)
class Stream:
    """Edges that additions join, so that their channels are scaled alike, with their makers and
    readers.
    """

    edges: frozenset[str]
    makers: tuple[Layer, ...]
    readers: tuple[Layer, ...]


def streams(network: QatNetwork) -> list[Stream]:
    """The streams that only whole convolutions read.

    They consist of projections, or ReLU layers, and their residual sums.
    """
    nodes = _edges(network)
    joined: dict[str, set[str]] = {name: {name} for name in nodes}
    adding: Counter[str] = Counter()
    for name, node in nodes.items():
        if network.writers[name] == "ADD":
            terms = [
                arg.meta["edge"]
                for arg in _before_activation(node).args
                if isinstance(arg, fx.Node)
            ]
            adding.update(terms)
            together = set.union(joined[name], *(joined[term] for term in terms))
            joined.update(dict.fromkeys(together, together))
    makers = {layer.target: layer for layer in network.layers}
    found = []
    # A dictionary and not a set, so that the order is the graph's.
    for edges in dict.fromkeys(frozenset(each) for each in joined.values()):
        readers = [layer for layer in network.layers if layer.source in edges]
        if (
            readers
            and all(
                (name in makers or network.writers[name] == "ADD")
                and network.edge(name).fixed is None
                and activation_of(nodes[name].args[0]) in (None, "RELU")
                and len(nodes[name].users)
                == adding[name] + sum(layer.source == name for layer in readers)
                for name in edges
            )
            and all(
                layer.op == "CONV_2D"
                and graphs.getattr_path(network.graph, layer.weight).shape[1]
                == graphs.shape_of(nodes[layer.source].args[0])[1]
                for layer in readers
            )
        ):
            found.append(
                Stream(
                    edges,
                    tuple(makers[name] for name in sorted(edges & makers.keys())),
                    tuple(readers),
                )
            )
    return found


def _before_activation(node: fx.Node) -> fx.Node:
    made_by = node.args[0]
    assert isinstance(made_by, fx.Node)
    before = made_by.args[0] if activation_of(made_by) else made_by
    assert isinstance(before, fx.Node)
    return before


def even_factors(peaks: Mapping[str, Tensor]) -> Tensor:
    """The factor, 1 to LARGEST, that brings each channel's peak nearer to the largest.

    `peaks`: {edge: the largest |value| of each channel, float32 [channels]}. Steps then fit a weak
    channel better, but the weights that read it shrink and are rounded more coarsely; hence POWER.
    """
    shares = torch.stack([peak / peak.max().clamp(min=TINY) for peak in peaks.values()]).amax(0)
    return (shares.max().clamp(min=TINY) / shares.clamp(min=TINY)).pow(POWER).clamp(max=LARGEST)


def even(network: QatNetwork, stream: Stream, reached: Mapping[str, Tensor]) -> Tensor:
    """Scale the channels of a stream, and return their factors, float32 [channels].

    `reached`: {edge: values that its channels reach, float32 [..., channels]}, of which the largest
    |value| counts.
    """
    peaks = {
        edge: reached[edge].abs().reshape(-1, reached[edge].shape[-1]).amax(0)
        for edge in stream.edges
    }
    factors = even_factors(peaks)
    _scale(network, stream.makers, factors)
    for reader in stream.readers:
        graphs.getattr_path(network.graph, reader.weight).div_(factors.reshape(1, -1, 1, 1))
    return factors


@torch.no_grad()
def equalise(network: QatNetwork, images: Sequence[Tensor]) -> None:
    """Scale the channels of a calibrated network where that is exact, in place, and calibrate it
    again.

    `images`: the calibration images, batches as `QatNetwork.forward` takes them. In phase "float"
    the answers stay the same.
    """
    found, linear = pairs(network), streams(network)
    set_phase(network, "float")
    seen = _Peaks(
        network,
        {reader.source for _, reader in found}
        | {edge for stream in linear for edge in stream.edges},
    )
    seen.run(network.on_grid(torch.cat(list(images))))
    for maker, reader in found:
        factors = free_factors(seen.peaks[reader.source])
        _scale(network, (maker,), factors)
        graphs.getattr_path(network.graph, reader.weight).div_(factors.reshape(-1, 1, 1, 1))
    for stream in linear:
        even(network, stream, seen.peaks)
    for name in network.edges:
        network.edge(name).forget()
    calibrate(network, images)


def _scale(network: QatNetwork, makers: Iterable[Layer], factors: Tensor) -> None:
    for maker in makers:
        for path in (maker.weight, maker.bias):
            parameter = graphs.getattr_path(network.graph, path)
            parameter.mul_(factors.reshape(-1, *[1] * (parameter.ndim - 1)))
