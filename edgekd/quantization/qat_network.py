"""The network under int8 training.

prepare    from a float module: batch norms folded, a fake-quantizer at every edge
calibrate  the first ranges; then train, and freeze the ranges with set_phase(network, "frozen")
finish     weights, biases, scales and ranges as plain data

`restoring.restore` makes the same network again from that data, without pickle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor, fx, nn

from edgekd.core import pages
from edgekd.core.artifact_rows import EdgeRange, LayerRow
from edgekd.core.errors import DataError, TrainingDiverged, UnsupportedNetwork
from edgekd.core.frames import Frame
from edgekd.networks import builders
from edgekd.networks.further_outputs import marked
from edgekd.quantization import folding, graphs, rewrites, transposed_convolutions
from edgekd.quantization.capture import capture as for_any_batch
from edgekd.quantization.constant_folding import fold_constants
from edgekd.quantization.fakequant import (
    PHASES,
    ActivationFakeQuant,
    PerChannelWeightFakeQuant,
)
from edgekd.quantization.fakequant_placement import insert, refuse_unknown
from edgekd.quantization.frame_reduction import put_before
from edgekd.quantization.qat_structure import (
    before_softmax,
    constants_in,
    find_layers,
    layer_state,
    name_edges,
    round_biases,
    writers_of,
)
from edgekd.quantization.recognised_activations import recognise_activations
from edgekd.quantization.recognised_norms import recognise_norms
from edgekd.quantization.synonyms import write_synonyms
from edgekd.tflite.int8_rules import (
    FIXED_OUTPUT,
    HARD_SWISH_RATIO,
    INT8_MIN,
    SAME_SCALE_OPS,
    Int8Rules,
    input_fold,
    input_range,
)

Capture = Callable[[nn.Module, Tensor], fx.GraphModule]
# Images in a forward pass of `predict`. More takes more memory and is not faster on a CPU.
PREDICT_BATCH = 64
BEFORE = "_before"  # behind names in `Finished.state`: parameters before calibration


class QatNetwork(nn.Module):
    """A network with int8 in the loop.

    forward: images float32 [n, channels, px, px] = (pixel/255 - mean) / std, n >= 1, to logits
    float32 [n, classes] on their int8 grid. Pixels are rounded to whole numbers first, as they are
    on the device. A softmax that the rules append runs only in `predict`.

    `px`: the longer side of what it takes. `edges`: {edge name: path of its fake-quantizer}.
    `writers`: {edge name: the TFLite operator that writes it}. `layers`: the layers with weights.
    `constants`: {edge name: path of its constant operand}. `further`: the edges of outputs beside
    the answers, in order. `before`: {path: parameter} before calibration changed it. train() and
    eval() change nothing: no dropout or batch norm is left.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        graph: fx.GraphModule,
        rules: Int8Rules,
        px: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.graph = graph
        self.rules = rules
        self.px = px
        self.mean = [float(m) for m in mean]
        self.std = [float(s) for s in std]
        self.input_range = input_range(self.mean, self.std)
        self.register_buffer(
            "_mean", torch.tensor(self.mean).reshape(1, -1, 1, 1), persistent=False
        )
        self.register_buffer("_std", torch.tensor(self.std).reshape(1, -1, 1, 1), persistent=False)
        self.edges = name_edges(graph)
        self.writers = writers_of(graph)
        self.layers = find_layers(graph)
        self.constants = constants_in(graph)
        self.before: dict[str, Tensor] = {}
        self.further = [str(node.meta["edge"]) for node in marked(graph.graph).values()]
        for layer in self.layers:
            quantizer = graph.get_submodule(layer.quantizer)
            assert isinstance(quantizer, PerChannelWeightFakeQuant)
            quantizer.attach(
                self.edge(layer.source),
                self.edge(layer.target),
                graph.get_submodule(layer.bias.rpartition(".")[0]),
            )
        self._check_fixed()
        for name, op in self.writers.items():
            if op == "HARD_SWISH":
                self.edge(name).keep_above(self.edge(self._source_of(name)), 1.0 / HARD_SWISH_RATIO)
            elif op == "RSQRT":
                self.edge(name).keep_below_root(self.edge(self._source_of(name)))
        round_biases(
            graph,
            {layer.bias: (layer.quantizer, self.edges[layer.source]) for layer in self.layers},
        )
        # In a tuple, so that its modules are not registered twice.
        self._trunk = (before_softmax(graph),)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or convert the network (`to`, `double`), with the part up to the logits."""
        super()._apply(fn, recurse)
        self._trunk = (before_softmax(self.graph),)
        return self

    def edge(self, name: str) -> ActivationFakeQuant:
        """The fake-quantizer of an edge."""
        module = self.graph.get_submodule(self.edges[name])
        assert isinstance(module, ActivationFakeQuant)
        return module

    def _source_of(self, name: str) -> str:
        """The first edge that the operator behind the edge `name` reads."""
        node = next(
            node for node in graphs.nodes_of(self.graph.graph) if node.meta.get("edge") == name
        )
        return str(node.args[0].args[0].meta["edge"])

    def _check_fixed(self) -> None:
        """Raise UnsupportedNetwork where one range would have to be fixed and learned."""
        for name, op in self.writers.items():
            edge = self.edge(name)
            own = self.input_range if op == "INPUT" else FIXED_OUTPUT.get(op)
            if edge.fixed == own or op in SAME_SCALE_OPS:
                continue
            joins = [
                (other, writer)
                for other, writer in self.writers.items()
                if writer == "CONCATENATION" and self.edge(other) is edge
            ]
            where, joint = joins[0] if joins else (name, op)
            raise UnsupportedNetwork(
                f"{joint} in module {where!r} joins a tensor whose range is fixed (pixels, a "
                "sigmoid or a softmax) with one whose range is learned. It has no int8 rule, since "
                "TFLite needs one range for both",
                "take a student that concatenates feature maps only",
            )

    def pixels(self, pixels: Tensor) -> Tensor:
        """Pixels 0..255 (float32 or uint8, NCHW) as the graph's input: scale * (pixel - 128 -
        zero_point).
        """
        return (
            pixels.float() + float(INT8_MIN - self.input_range.zero_point)
        ) * self.input_range.scale

    def on_grid(self, x: Tensor) -> Tensor:
        """Normalized images, as `forward` takes them, as the graph's input, with pixels rounded."""
        return self.pixels(torch.round((x * self._std + self._mean) * 255.0).clamp(0.0, 255.0))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self._trunk[0](self.on_grid(x))
        return logits


def prepare(
    model: nn.Module,
    px: int,
    mean: Sequence[float],
    std: Sequence[float],
    rules: Int8Rules | None = None,
    capture: Capture = for_any_batch,
    frame: Frame | None = None,
) -> QatNetwork:
    """Prepare a float network for int8 training. Changes `model` only in that it is put in eval
    form.

    `px`: side of the square input. `mean`, `std`: per channel, for pixels scaled to 0..1.
    `capture`: how the network becomes a graph: for any batch size, or (`recording.record`) for one
    image at a time. `frame`: what the network takes in place of the square, and reduces to it. The
    result is in phase "float".

    Raises UnsupportedNetwork, naming the operator and the module, for a network without an int8
    form.
    """
    rules = rules or Int8Rules()
    grid = input_range(mean, std)
    graph = capture(builders.reparameterised(model), torch.zeros(2, len(mean), px, px))
    write_synonyms(graph)
    recognise_activations(graph)
    recognise_norms(graph)
    transposed_convolutions.as_layers(graph)
    fold_constants(graph)
    folding.fold_batch_norms(graph)
    folding.fold_input(graph, *(torch.from_numpy(part) for part in input_fold(mean, std)))
    rewrites.rewrite(graph)
    folding.give_all_biases(graph)
    folding.write_global_pooling(graph, rules.pooling)
    if rules.softmax == "append":
        folding.append_softmax(graph)
    if frame is not None:
        put_before(graph, frame, grid)
    refuse_unknown(graph.graph)
    insert(graph, rules, grid)
    # Without the parameters that nothing reads any more, such as those of folded batch norms.
    read = fx.GraphModule(graph, graph.graph)
    return QatNetwork(read, rules, px if frame is None else max(frame.sides), mean, std)


def set_phase(network: QatNetwork, phase: str) -> None:
    """Put every fake-quantizer in one of the phases of `edgekd.quantization.fakequant.PHASES`."""
    if phase not in PHASES:
        raise ValueError(f"phase is {phase!r}; it can be one of {PHASES}")
    for module in network.modules():
        if isinstance(module, (ActivationFakeQuant, PerChannelWeightFakeQuant)):
            module.phase = phase


def calibrate(network: QatNetwork, batches: Iterable[Tensor]) -> int:
    """Set the first ranges from images, as `forward` takes them, and enter phase "observe".

    Returns the number of images. Ranges are the minima and maxima over all of them. Raises
    DataError when there are none, and TrainingDiverged when a range is not finite.
    """
    set_phase(network, "calibrate")
    seen = 0
    with torch.no_grad():
        for x in batches:
            network(x)
            seen += len(x)
    if not seen:
        raise DataError(
            "there are no calibration images", "give at least one image of the training split"
        )
    check_finite(network)
    set_phase(network, "observe")
    return seen


def check_finite(network: QatNetwork) -> None:
    """Raise TrainingDiverged where a range, a weight or a bias is not finite."""
    for name in network.edges:
        edge = network.edge(name)
        if not (torch.isfinite(edge.low) and torch.isfinite(edge.high)):
            raise TrainingDiverged(
                f"the range of {name!r} is {float(edge.low)} .. {float(edge.high)}",
                "lower the learning rate of the qat stage",
            )
    for layer in network.layers:
        for path in (layer.weight, layer.bias):
            if not bool(torch.isfinite(graphs.getattr_path(network.graph, path)).all()):
                raise TrainingDiverged(
                    f"{path!r} holds NaN or infinity", "lower the learning rate of the qat stage"
                )


@dataclasses.dataclass(frozen=True)
class Finished:
    """The parts of a QuantNetwork that int8 training makes.

    `state`: safetensors with, for each layer, `NAME.weight` (float32 as trained), `NAME.bias`
    (float32 [out]) and `NAME.scale` (float32 [out] or [1]). The int8 codes are round(weight /
    scale). A constant operand is `EDGE.constant`; `NAME.bias_before` is as it was in float.
    """

    ranges: list[EdgeRange]
    layers: list[LayerRow]
    state: bytes


def finish(network: QatNetwork) -> Finished:
    """Freeze the ranges, observe the weight scales after the last step, and return all as plain
    data.
    """
    check_finite(network)
    set_phase(network, "frozen")
    state: dict[str, Tensor] = {}
    for layer in network.layers:
        state |= layer_state(network.graph, layer)
        for part, path in (("weight", layer.weight), ("bias", layer.bias)):
            if path in network.before:
                state[f"{layer.name}.{part}{BEFORE}"] = network.before[path]
    for edge, path in network.constants.items():
        state[f"{edge}.constant"] = graphs.getattr_path(network.graph, path).detach()
    ranges: list[EdgeRange] = []
    for name in network.edges:
        found = network.edge(name).range
        ranges.append(
            {
                "edge": name,
                "op": network.writers[name],
                "scale": found.scale,
                "zero_point": found.zero_point,
            }
        )
    layers: list[LayerRow] = [
        {"name": layer.name, "op": layer.op, "source": layer.source, "target": layer.target}
        for layer in network.layers
    ]
    plain = {name: value.cpu().float().contiguous().clone() for name, value in state.items()}
    return Finished(ranges, layers, safetensors.torch.save(plain))


def predict(
    network: QatNetwork, images: npt.NDArray[np.uint8], batch: int = PREDICT_BATCH
) -> npt.NDArray[np.float32]:
    """Logits of the fake-quantized network: uint8 [n, px, px, channels] (NHWC) to float32 [n,
    classes].

    Runs in the network's present phase. On a finished or restored network these are the answers of
    the file.
    """
    first = next(network.parameters())
    rows, resident = [], pages.Resident(images)
    with torch.no_grad():
        for start in range(0, len(images), batch):
            part = torch.from_numpy(np.array(images[start : start + batch], order="C")).to(
                first.device
            )
            resident.used(len(part), part[0].nbytes)
            pixels = network.pixels(part.permute(0, 3, 1, 2)).to(first.dtype)
            rows.append(network.graph(pixels).cpu().numpy())
    return np.concatenate(rows).astype(np.float32)
