"""The number format "mixed": the certified int8 file with the operators that lose most in float32.

1. Each operator's cost is measured on calibration images: the Kullback-Leibler divergence of the
   answers with it alone in int8 from those in float (as `quantization.sensitivity`).
2. The operators that write or read the tensors of the 1, 2, 4, ... costliest are computed in
   float32, and each such file answers validation images. The first one is taken that keeps the
   divergence from the float network below KEPT of int8's, else the best one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Labels, LiteModel, QuantNetwork
from edgekd.core.errors import UnsupportedNetwork
from edgekd.evaluation import metrics
from edgekd.quantization import graphs
from edgekd.quantization.fitting_biases import FittingBiases
from edgekd.quantization.op_limits import activation_of
from edgekd.quantization.qat_network import QatNetwork, set_phase
from edgekd.quantization.rerun import Rerun, Unit, affected, phase, units
from edgekd.quantization.restoring import rebuild
from edgekd.tflite import flatbuffer
from edgekd.tflite.flatbuffer import LiteGraph
from edgekd.tflite.int8_rules import SATURATION
from edgekd.tflite.mixed_precision import NEVER, with_float_operators
from edgekd.tflite.runtime import LiteRunner, tensor_range

# Images whose values at every edge are kept at once: at 224 px about 0.1 GB each.
BATCH = 4
# Multiply-adds that finding the costs may take: 20 s on one core. Of a large network, fewer images
# are asked, but at least LEAST.
MACS, LEAST, MOST = 200e9, 4, 64
# The share of int8's divergence that may stay: a quarter is half of the error of the logits, as the
# divergence grows with the error's square.
KEPT = 0.25
# The share of all operators that may be in float32. With more, float16 is the better file.
LARGEST = 0.5
LEAST_SHARE = 1 / 512  # half a step of the int8 output of a SOFTMAX
# A file whose answers are this close to the float network's loses nothing.
NOTHING = 1e-6

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Judged:
    """Validation images, uint8 [m, px, px, channels], the float network's logits of them, float32
    [m, classes], and how many labels an image has.
    """

    images: Pixels
    logits: Floats
    labels: Labels

    def divergence(self, data: bytes) -> float:
        """How far the answers of a file lie from the float network's, in nats."""
        runner = LiteRunner(data)
        real = tensor_range(runner.output).dequantize(runner.codes(self.images))
        found = _as_logits(real.reshape(self.logits.shape), runner.graph)
        return float(metrics.divergence(found, self.logits, self.labels).mean())


def mixed_file(
    qat: QuantNetwork,
    model: LiteModel,
    shown: Pixels,
    judged: Judged,
    macs: int,
    done: Callable[[int, int], None],
) -> bytes:
    """The .tflite with its costliest operators in float32.

    `shown`: calibration images, uint8 [n, px, px, channels]. `macs`: of the network. `done`: is
    called with the number of operators that were tried, and of all. Raises UnsupportedNetwork where
    int8 loses nothing, and where no choice loses less.
    """
    network = rebuild(qat)
    found, graph = units(network), flatbuffer.read(model.tflite)
    each = max(macs, 1) * len(found) / 2  # a rerun computes half of the network on average
    count = int(np.clip(MACS / each, LEAST, MOST))
    whole = judged.divergence(bytes(model.tflite))
    if whole <= NOTHING:
        raise UnsupportedNetwork(
            "int8 loses nothing on the validation images", "leave mixed out of convert.formats"
        )
    fitting = FittingBiases(network, shown)
    costs = _costs(network, found, shown[:count], graph, judged.labels, done)
    ranked = [found[at] for at in np.argsort(-costs, kind="stable")]
    most = int(LARGEST * sum(op.name not in NEVER for op in graph.ops))
    best, least, size = b"", whole, 1
    while size <= len(ranked):
        chosen = _operators(graph, model, ranked[:size])
        if best and len(chosen) > most:
            break
        read = {graph.tensors[at].name for op in chosen for at in graph.ops[op].inputs if at >= 0}
        layers = [layer for layer in network.layers if f"{layer.name}.weight" in read]
        fitting.correct(layers, [unit.range_path for unit in ranked[:size]])
        made = with_float_operators(model.tflite, chosen, _values(network), _bounded(network))
        left = judged.divergence(made)
        if left < least:
            best, least = made, left
        if left <= KEPT * whole:
            break
        size *= 2
    if not best:
        raise UnsupportedNetwork(
            f"no operator of {len(ranked)} in float32 brings the answers nearer to the float "
            "network's",
            "leave mixed out of convert.formats",
        )
    return best


def _costs(
    network: QatNetwork,
    found: Sequence[Unit],
    images: Pixels,
    graph: LiteGraph,
    labels: Labels,
    done: Callable[[int, int], None],
) -> npt.NDArray[np.float64]:
    """The divergence of the answers with each unit alone in int8 from those in float."""
    dirty = [affected(network, unit.paths) for unit in found]
    total = np.zeros(len(found))
    for start in range(0, len(images), BATCH):
        set_phase(network, "float")
        run = Rerun(network, images[start : start + BATCH])
        real = _as_logits(run.logits, graph)
        for number, unit in enumerate(found):
            with phase(network, unit.paths, "frozen"):
                answers = _as_logits(run.after(dirty[number]), graph)
            total[number] += metrics.divergence(answers, real, labels).sum()
            done(start * len(found) // BATCH + number + 1, -(-len(images) // BATCH) * len(found))
    set_phase(network, "frozen")
    return total / max(len(images), 1)


def _operators(graph: LiteGraph, model: LiteModel, chosen: Sequence[Unit]) -> frozenset[int]:
    """The operators that write or read a tensor of these units."""
    edges = {edge for unit in chosen for edge in (unit.name, *unit.others)}
    tensors = {
        tensor.index
        for row in model.correspondence
        if row["kind"] == "activation" and row["edge"] in edges
        for tensor in (graph.by_name()[row["tensor"]],)
    }
    return frozenset(
        op.index
        for op in graph.ops
        if op.name not in NEVER and tensors.intersection((*op.inputs, *op.outputs))
    )


def _as_logits(values: Floats, graph: LiteGraph) -> Floats:
    """Answers as logits, float32 [n, k]: probabilities of a file that ends in a SOFTMAX become
    their logarithms.
    """
    writer = next(op.name for op in reversed(graph.ops) if graph.outputs[0] in op.outputs)
    return np.log(np.maximum(values, LEAST_SHARE)) if writer == "SOFTMAX" else values


def _values(network: QatNetwork) -> dict[str, Floats]:
    """{tensor: value} of all weights and biases, in the file's layout."""
    found = {}
    for layer in network.layers:
        weight, bias = (
            graphs.getattr_path(network.graph, path).detach().float().numpy()
            for path in (layer.weight, layer.bias)
        )
        if layer.op == "DEPTHWISE_CONV_2D":
            weight = weight.transpose(1, 2, 3, 0)
        elif weight.ndim == 4:
            weight = weight.transpose(0, 2, 3, 1)
        found[f"{layer.name}.weight"] = np.ascontiguousarray(weight)
        found[f"{layer.name}.bias"] = bias.copy()
    return found


def _bounded(network: QatNetwork) -> frozenset[str]:
    """The edges whose range does the work of a clamp to 0..1."""
    return frozenset(
        str(node.meta["edge"])
        for node in graphs.nodes_of(network.graph.graph)
        if "edge" in node.meta and activation_of(node.args[0]) == SATURATION
    )
