"""The network under int8 training: prepared from a float module, calibrated, trained, finished, and rebuilt from bytes.

prepare    BN folded, fake-quantisers at every edge of the int8 graph
calibrate  first ranges; then train, with set_phase(network, "frozen") after the first part
finish     weights, biases, scales and ranges as plain data
restore    the same network again, without pickle
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor, fx, nn

from edgekd.core.artifact_rows import EdgeRange, LayerRow
from edgekd.core.artifacts import QuantNetwork
from edgekd.core.errors import DataError, TrainingDiverged, UnsupportedNetwork, WeightsError
from edgekd.networks import builders
from edgekd.quantization import graphs, rewrites
from edgekd.quantization.constant_folding import fold_constants
from edgekd.quantization.fakequant import (
    PHASES,
    ActivationFakeQuant,
    BiasFakeQuant,
    PerChannelWeightFakeQuant,
)
from edgekd.quantization.fakequant_placement import (
    activation_of,
    insert,
    is_compute,
    refuse_unknown,
    tflite_op,
)
from edgekd.tflite.int8_rules import (
    FIXED_OUTPUT,
    HARD_SWISH_RATIO,
    INT8_MIN,
    SAME_SCALE_OPS,
    Int8Rules,
    Range,
    input_fold,
    input_range,
)

Capture = Callable[[nn.Module, Tensor], fx.GraphModule]
PREDICT_BATCH = (
    64  # images a forward pass in `predict`: memory stays small, more is not faster on a CPU
)


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer with weights: its name (the float network's module), TFLite op, and the edges it reads and writes."""

    name: str
    op: str
    source: str
    target: str
    weight: str  # path of the parameter in the graph module
    bias: str
    quantiser: str  # path of the weight's fake-quantiser


class QatNetwork(nn.Module):
    """A network with int8 in the loop.

    forward: float32 [n, channels, px, px] = (pixel/255 - mean) / std, n >= 1, to logits, float32 [n, classes], on their
    int8 grid; a softmax that the rules append is left to `predict`. Pixels are rounded to whole numbers first, as the
    device's are. `edges` maps an edge's name to the path of its fake-quantiser; `layers` lists what has weights. train()
    and eval() change nothing: neither dropout nor batch norm is left.
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
        self.edges = _name_edges(graph)
        self.writers = _writers(graph)
        self.layers = _find_layers(graph)
        for layer in self.layers:
            quantiser = graph.get_submodule(layer.quantiser)
            assert isinstance(quantiser, PerChannelWeightFakeQuant)
            quantiser.attach(
                self.edge(layer.source),
                self.edge(layer.target),
                graph.get_submodule(layer.bias.rpartition(".")[0]),
            )
        self._check_fixed()
        for name, op in self.writers.items():
            if op == "HARD_SWISH":
                self.edge(name).keep_above(self.edge(self._source_of(name)), 1.0 / HARD_SWISH_RATIO)
        _round_biases(
            graph,
            {layer.bias: (layer.quantiser, self.edges[layer.source]) for layer in self.layers},
        )
        self._trunk = (
            _before_softmax(graph),
        )  # in a tuple, so that its modules are not registered twice

    def edge(self, name: str) -> ActivationFakeQuant:
        """The fake-quantiser of an edge."""
        module = self.graph.get_submodule(self.edges[name])
        assert isinstance(module, ActivationFakeQuant)
        return module

    def _source_of(self, name: str) -> str:
        """The edge that the op which writes `name` reads first."""
        node = next(
            node for node in graphs.nodes_of(self.graph.graph) if node.meta.get("edge") == name
        )
        return str(node.args[0].args[0].meta["edge"])

    def _check_fixed(self) -> None:
        """Refuse an op that would have to share a range which is fixed by another: TFLite has no such op."""
        for name, op in self.writers.items():
            fixed = self.edge(name).fixed
            own = self.input_range if op == "INPUT" else FIXED_OUTPUT.get(op)
            if fixed != own and not (op in SAME_SCALE_OPS and op != "CONCATENATION"):
                raise UnsupportedNetwork(
                    f"{op} in module {name!r} joins a tensor whose range is fixed (pixels, a sigmoid or a softmax) with one "
                    "whose range is learned, and one range must serve both: no int8 rule",
                    "take a student that concatenates feature maps only",
                )

    def pixels(self, pixels: Tensor) -> Tensor:
        """What pixel values 0..255 (float32 or uint8, NCHW) mean to the graph: scale * (pixel - 128 - zero_point)."""
        return (
            pixels.float() + float(INT8_MIN - self.input_range.zero_point)
        ) * self.input_range.scale

    def on_grid(self, x: Tensor) -> Tensor:
        """What normalised images, as `forward` takes them, mean to the graph once their pixels are whole numbers."""
        return self.pixels(torch.round((x * self._std + self._mean) * 255.0).clamp(0.0, 255.0))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self._trunk[0](self.on_grid(x))
        return logits


def _before_softmax(graph: fx.GraphModule) -> fx.GraphModule:
    """The same modules and parameters up to the logits: what training takes its loss from."""
    shorter = fx.Graph()
    quantised = shorter.graph_copy(graph.graph, {})
    assert isinstance(quantised, fx.Node)
    softmax = quantised.args[0]
    if not (isinstance(softmax, fx.Node) and softmax.target is torch.ops.aten.softmax.int):
        return graph
    shorter.output(softmax.args[0])
    shorter.erase_node(quantised)
    shorter.erase_node(softmax)
    return fx.GraphModule(graph, shorter)


def _name_edges(graph: fx.GraphModule) -> dict[str, str]:
    """{edge name: path of its fake-quantiser}, and the same name in each fake-quantiser node's meta["edge"].

    An edge is named after the module that made it (in the float network), the image "input", the result "output".
    """
    edges: dict[str, str] = {}
    output = next(
        node for node in reversed(graphs.nodes_of(graph.graph)) if node.op == "output"
    ).args[0]
    for node in graphs.nodes_of(graph.graph):
        if node.op != "call_module" or not isinstance(
            graph.get_submodule(node.target), ActivationFakeQuant
        ):
            continue
        made_by = node.args[0]
        if made_by.op == "placeholder":
            name = "input"
        elif node is output:
            name = "output"
        else:
            name = graphs.module_of(made_by) or made_by.name
        while name in edges:
            stem, _, count = name.partition("#")
            name = f"{stem}#{int(count or 1) + 1}"
        edges[name] = str(node.target)
        node.meta["edge"] = name
    return edges


def _writers(graph: fx.GraphModule) -> dict[str, str]:
    """{edge name: the TFLite op that writes it}, "INPUT" for the image."""
    writers: dict[str, str] = {}
    for node in graphs.nodes_of(graph.graph):
        if "edge" not in node.meta:
            continue
        made_by = node.args[0]
        if made_by.op == "placeholder":
            writers[node.meta["edge"]] = "INPUT"
            continue
        before = made_by.args[0]
        fused = activation_of(made_by) is not None and before.op == "call_function"
        writers[node.meta["edge"]] = tflite_op(before if fused else made_by)
    return writers


def _find_layers(graph: fx.GraphModule) -> list[Layer]:
    layers: list[Layer] = []
    for node in graphs.nodes_of(graph.graph):
        weight = node.args[1] if is_compute(node) and len(node.args) > 1 else None
        if not (isinstance(weight, fx.Node) and weight.op == "call_module"):
            continue
        if not isinstance(graph.get_submodule(str(weight.target)), PerChannelWeightFakeQuant):
            continue
        target = node
        while "edge" not in target.meta:
            (target,) = target.users
        parameter: graphs.Node = weight.args[0]
        path = str(parameter.target)
        layers.append(
            Layer(
                path.rpartition(".")[0],
                tflite_op(node),
                node.args[0].meta["edge"],
                target.meta["edge"],
                path,
                str(node.args[2].target),
                str(weight.target),
            )
        )
    names = [layer.weight for layer in layers]
    for name in names:
        if names.count(name) > 1:
            raise UnsupportedNetwork(
                f"the weight {name!r} is used by {names.count(name)} layers",
                "take a student that shares no weights between layers",
            )
    return layers


def _round_biases(graph: fx.GraphModule, layers: dict[str, tuple[str, str]]) -> None:
    """Put a BiasFakeQuant before each layer; `layers`: {bias: paths of the weight's and the input's fake-quantisers}."""
    for number, node in enumerate(graphs.nodes_of(graph.graph)):
        bias = node.args[2] if is_compute(node) and len(node.args) > 2 else None
        if isinstance(bias, fx.Node) and bias.op == "get_attr":
            weight, source = (graph.get_submodule(path) for path in layers[str(bias.target)])
            assert isinstance(weight, PerChannelWeightFakeQuant)
            assert isinstance(source, ActivationFakeQuant)
            name = f"bias_fake_quant_{number}"
            graph.add_module(name, BiasFakeQuant(weight, source))
            with graph.graph.inserting_before(node):
                node.args = (*node.args[:2], graph.graph.call_module(name, (bias,)), *node.args[3:])
    graph.recompile()


def prepare(
    model: nn.Module,
    px: int,
    mean: Sequence[float],
    std: Sequence[float],
    rules: Int8Rules | None = None,
    capture: Capture = graphs.capture,
) -> QatNetwork:
    """The int8 training form of a float network; `model` is left as it was, save that it is put in eval form.

    `px`: the square input's side; `mean`, `std`: per channel, for pixels scaled to 0..1. `capture`: how the network becomes
    a graph, for any batch size or (`recording.record`) one image at a time. The graph starts in phase "float".

    Raises UnsupportedNetwork, naming the op and the module, for a network that has no int8 form.
    """
    rules = rules or Int8Rules()
    grid = input_range(mean, std)
    graph = capture(builders.reparameterised(model), torch.zeros(2, len(mean), px, px))
    fold_constants(graph)
    graphs.fold_batch_norms(graph)
    graphs.fold_input(graph, *(torch.from_numpy(part) for part in input_fold(mean, std)))
    rewrites.rewrite(graph)
    graphs.give_all_biases(graph)
    graphs.write_global_pooling(graph, rules.pooling)
    if rules.softmax == "append":
        graphs.append_softmax(graph)
    refuse_unknown(graph.graph)
    insert(graph, rules, grid)
    read = fx.GraphModule(
        graph, graph.graph
    )  # without the parameters that nothing reads any more: folded batch norms'
    return QatNetwork(read, rules, px, mean, std)


def set_phase(network: QatNetwork, phase: str) -> None:
    """Put every fake-quantiser in one of the phases of `edgekd.quantization.fakequant.PHASES`."""
    if phase not in PHASES:
        raise ValueError(f"phase is {phase!r}; it can be one of {PHASES}")
    for module in network.modules():
        if isinstance(module, (ActivationFakeQuant, PerChannelWeightFakeQuant)):
            module.phase = phase


def calibrate(network: QatNetwork, batches: Iterable[Tensor]) -> int:
    """Set the first ranges from inputs (as forward takes them) and enter phase "observe"; gives the number of images.

    Ranges are the plain minima and maxima over all that is shown. Raises DataError when nothing is, and
    TrainingDiverged when a range is not finite.
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
    _check_finite(network)
    set_phase(network, "observe")
    return seen


def _check_finite(network: QatNetwork) -> None:
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
    """What int8 training gives: the parts of a QuantNetwork.

    `ranges`: {"edge", "op" (the TFLite op that writes it, or INPUT), "scale", "zero_point"} an edge. `layers`: {"name",
    "op", "source", "target"} a layer with weights. `state`: safetensors with, for each layer, `NAME.weight` float32 as
    trained, `NAME.bias` float32 [out] and `NAME.scale` float32 [out] (or [1]): the codes are round(weight / scale).
    """

    ranges: list[EdgeRange]
    layers: list[LayerRow]
    state: bytes


def finish(network: QatNetwork) -> Finished:
    """Freeze the ranges, observe the weight scales once more after the last step, and give all of it as plain data."""
    _check_finite(network)
    set_phase(network, "frozen")
    state: dict[str, Tensor] = {}
    for layer in network.layers:
        weight = graphs.getattr_path(network.graph, layer.weight).detach()
        quantiser = network.graph.get_submodule(layer.quantiser)
        assert isinstance(quantiser, PerChannelWeightFakeQuant)
        state[f"{layer.name}.weight"] = weight
        state[f"{layer.name}.bias"] = graphs.getattr_path(network.graph, layer.bias).detach()
        state[f"{layer.name}.scale"] = quantiser.scales(weight)
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


def restore(qnet: QuantNetwork, model: nn.Module) -> QatNetwork:
    """The network of a QuantNetwork, frozen. `model`: the float network its builder gives, with any weights.

    Raises WeightsError when the artifact is of another network.
    """
    network = prepare(model, qnet.px, qnet.mean, qnet.std, Int8Rules.from_dict(qnet.rules))
    state = safetensors.torch.load(bytes(qnet.state))
    learned = {row["edge"]: Range(row["scale"], row["zero_point"]) for row in qnet.ranges}
    names = [layer.name for layer in network.layers]
    expected = {f"{name}.{part}" for name in names for part in ("weight", "bias", "scale")}
    if learned.keys() != network.edges.keys() or state.keys() != expected:
        odd = sorted((learned.keys() ^ network.edges.keys()) | (state.keys() ^ expected))
        raise WeightsError(
            f"the trained int8 network of {qnet.arch!r} does not fit the network built now: {odd[:4]}",
            "build again from the qat stage; the student's builder or options changed",
        )
    for name, value in learned.items():
        network.edge(name).set_range(value)
    for layer in network.layers:
        for path, part in ((layer.weight, "weight"), (layer.bias, "bias")):
            parameter, trained = (
                graphs.getattr_path(network.graph, path),
                state[f"{layer.name}.{part}"],
            )
            if parameter.shape != trained.shape:
                raise WeightsError(
                    f"{layer.name}.{part} is {list(trained.shape)} in the artifact and "
                    f"{list(parameter.shape)} in the network",
                    "build again from the qat stage",
                )
            with torch.no_grad():
                parameter.copy_(trained)
    set_phase(network, "frozen")
    return network.eval()


def exact(network: QatNetwork) -> QatNetwork:
    """A copy that computes in float64. float32 sums of products are off by some 1e-4 of an output's step, which tips one
    code in a thousand, layer after layer; integer arithmetic, and so the device, has no such error.
    """
    return copy.deepcopy(network).double()


def predict(
    network: QatNetwork, images: npt.NDArray[np.uint8], batch: int = PREDICT_BATCH
) -> npt.NDArray[np.float32]:
    """Logits of the fake-quantised network: uint8 [n, px, px, channels] (NHWC) to float32 [n, classes].

    Runs in the phase the network is in; call it on a finished or restored network for the figures of the file.
    """
    first = next(network.parameters())
    rows = []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            part = torch.from_numpy(np.ascontiguousarray(images[start : start + batch])).to(
                first.device
            )
            pixels = network.pixels(part.permute(0, 3, 1, 2)).to(first.dtype)
            rows.append(network.graph(pixels).cpu().numpy())
    return np.concatenate(rows).astype(np.float32)
