"""Reads the structure of a graph with fake-quantizers: edges, writers, layers."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, fx

from edgekd.core.errors import UnsupportedNetwork
from edgekd.networks.further_outputs import marked
from edgekd.quantization.fakequant import (
    ActivationFakeQuant,
    BiasFakeQuant,
    PerChannelWeightFakeQuant,
)
from edgekd.quantization.fakequant_placement import CONSTANT, is_compute, tflite_op
from edgekd.quantization.graphs import Node, getattr_path, module_of, nodes_of, output_of
from edgekd.quantization.op_limits import activation_of


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer with weights.

    `name`: its module in the float network. `op`: its TFLite operator. `source`, `target`: the
    edges that it reads and writes. `weight`, `bias`, `quantizer`: paths in the graph module of the
    two parameters and of the weight's fake-quantizer.
    """

    name: str
    op: str
    source: str
    target: str
    weight: str
    bias: str
    quantizer: str


def before_softmax(graph: fx.GraphModule) -> fx.GraphModule:
    """The same modules and parameters up to the logits, from which training takes its loss."""
    shorter = fx.Graph()
    quantized = shorter.graph_copy(graph.graph, {})
    assert isinstance(quantized, fx.Node)
    softmax = quantized.args[0]
    if not (isinstance(softmax, fx.Node) and softmax.target is torch.ops.aten.softmax.int):
        return graph
    shorter.output(softmax.args[0])
    shorter.erase_node(quantized)
    shorter.erase_node(softmax)
    return fx.GraphModule(graph, shorter)


def name_edges(graph: fx.GraphModule) -> dict[str, str]:
    """{edge name: path of its fake-quantizer}; each fake-quantizer's node holds the name in
    meta["edge"].

    An edge is named after the module of the float network that made it. The image is "input", the
    result "output", and a further output of the network has its own name.
    """
    edges: dict[str, str] = {}
    output = output_of(graph.graph).args[0]
    further = _further(graph.graph, output)
    for node in nodes_of(graph.graph):
        if node.op != "call_module" or not isinstance(
            graph.get_submodule(node.target), ActivationFakeQuant
        ):
            continue
        made_by = node.args[0]
        if made_by.op == "placeholder":
            name = "input"
        elif node is output:
            name = "output"
        elif node in further:
            name = further[node]
        elif made_by.op == "get_attr":
            name = str(made_by.target)
        else:
            name = module_of(made_by) or made_by.name
        while name in edges or (name in further.values() and node not in further):
            stem, _, count = name.partition("#")
            name = f"{stem}#{int(count or 1) + 1}"
        edges[name] = str(node.target)
        node.meta["edge"] = name
    return edges


def _further(graph: fx.Graph, output: Node) -> dict[Node, str]:
    """{the fake-quantizer of a further output: its name}. Raises UnsupportedNetwork for what no
    operator of its own writes.
    """
    found: dict[Node, str] = {}
    for name, value in marked(graph).items():
        node: Node = value
        made_by: Node = node.args[0] if node.op == "call_module" else node
        if node is output or node in found or made_by.op != "call_function":
            what = "the image or a constant"
            if node is output or node in found:
                what = f"the same as the output {found.get(node, 'of the answers')!r}"
            raise UnsupportedNetwork(
                f"the output {name!r} is {what}",
                "leave it out: name the outputs to keep with --outputs",
            )
        found[node] = name
    return found


def writers_of(graph: fx.GraphModule) -> dict[str, str]:
    """{edge name: the TFLite operator that writes it}, "INPUT" for the image, and CONSTANT for
    a constant operand.
    """
    writers: dict[str, str] = {}
    for node in nodes_of(graph.graph):
        if "edge" not in node.meta:
            continue
        made_by = node.args[0]
        if made_by.op == "placeholder":
            writers[node.meta["edge"]] = "INPUT"
            continue
        if made_by.op == "get_attr":
            writers[node.meta["edge"]] = CONSTANT
            continue
        before = made_by.args[0]
        fused = activation_of(made_by) is not None and before.op == "call_function"
        writers[node.meta["edge"]] = tflite_op(before if fused else made_by)
    return writers


def find_layers(graph: fx.GraphModule) -> list[Layer]:
    """The layers with weights, in order. Raises UnsupportedNetwork for a shared weight."""
    layers: list[Layer] = []
    for node in nodes_of(graph.graph):
        weight = node.args[1] if is_compute(node) and len(node.args) > 1 else None
        if not (isinstance(weight, fx.Node) and weight.op == "call_module"):
            continue
        if not isinstance(graph.get_submodule(str(weight.target)), PerChannelWeightFakeQuant):
            continue
        target = node
        while "edge" not in target.meta:
            (target,) = target.users
        parameter: Node = weight.args[0]
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


def layer_state(graph: fx.GraphModule, layer: Layer) -> dict[str, Tensor]:
    """What an artifact keeps of a layer: `NAME.weight`, `NAME.bias` and `NAME.scale`, as they are
    now (see `qat_network.Finished`).
    """
    weight: Tensor = getattr_path(graph, layer.weight).detach()
    quantizer = graph.get_submodule(layer.quantizer)
    assert isinstance(quantizer, PerChannelWeightFakeQuant)
    return {
        f"{layer.name}.weight": weight,
        f"{layer.name}.bias": getattr_path(graph, layer.bias).detach(),
        f"{layer.name}.scale": quantizer.scales(weight),
    }


def constants_in(graph: fx.GraphModule) -> dict[str, str]:
    """{edge name: path of the parameter or buffer} of every constant operand."""
    return {
        str(node.meta["edge"]): str(node.args[0].target)
        for node in nodes_of(graph.graph)
        if "edge" in node.meta and node.args[0].op == "get_attr"
    }


def round_biases(graph: fx.GraphModule, layers: dict[str, tuple[str, str]]) -> None:
    """Put a BiasFakeQuant before each layer.

    `layers`: {path of the bias: paths of the fake-quantizers of its weight and of its input}.
    """
    for number, node in enumerate(nodes_of(graph.graph)):
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
