"""Records a network that a user brings, and brings its graph to the form of a network of ours.

The graph of a foreign network holds things that no network of timm has: a batch of one in its
shapes, constants as tensors where numbers would do, names that are no Python names, and transposes
that cancel each other. What remains is an aten graph for any batch size.
"""

from __future__ import annotations

import operator
import re
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from edgekd.core.errors import UnsupportedNetwork
from edgekd.networks.module_paths import place
from edgekd.quantization import input_affine
from edgekd.quantization.batch_axis import any_batch
from edgekd.quantization.branch_merging import merge_branches, norms_before_linear_layers
from edgekd.quantization.constant_folding import fold_constants
from edgekd.quantization.core_operators import whole_from_core
from edgekd.quantization.graphs import (
    CONVOLUTIONS,
    Node,
    clean,
    getattr_path,
    is_layer,
    nodes_of,
    op_name,
)
from edgekd.quantization.recording import record

aten = torch.ops.aten

# Operators that take a number in place of a constant tensor of one element.
SCALAR = frozenset(
    {
        aten.add.Tensor,
        aten.sub.Tensor,
        aten.mul.Tensor,
        aten.div.Tensor,
        aten.true_divide.Tensor,
    }
)
# Largest difference between an image alone and in a batch, relative to the largest logit: float32
# rounding of different convolution kernels stays under 1e-4 in the networks that were tried.
SAME = 1e-3


def recorded(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """The graph of `model` for any batch size, with copies of its parameters.

    `example`: float32 [n >= 2, channels, px, px]. Raises UnsupportedNetwork when the network fails,
    has several outputs, or answers an image differently in a batch.
    """
    graph = record(model, example)
    whole_from_core(graph)
    fold_constants(graph)
    numbers_for_constants(graph)
    clamps_with_numbers(graph)
    whole_operators(graph)
    cancel_permutes(graph)
    norms_before_linear_layers(graph)
    merge_branches(graph)
    any_batch(graph)
    python_names(graph)
    clean(graph)
    _check(graph, model, example)
    return graph


def _constant(network: fx.GraphModule, value: Any) -> float | None:
    """The number that a node stands for, when it is a constant of one element."""
    if not (isinstance(value, fx.Node) and value.op == "get_attr"):
        return None
    tensor = getattr_path(network, str(value.target))
    if isinstance(tensor, nn.Parameter) or tensor.numel() != 1:
        return None
    return float(tensor.item())


def numbers_for_constants(network: fx.GraphModule) -> None:
    """Write constants of one element as numbers into the operators that read them."""
    for node in nodes_of(network.graph):
        if node.target is aten.pow.Tensor_Tensor:
            exponent = _constant(network, node.args[1])
            if exponent is not None:
                node.target, node.args = aten.pow.Tensor_Scalar, (node.args[0], exponent)
        if node.target not in SCALAR:
            continue
        first, second = (_constant(network, part) for part in node.args[:2])
        if second is not None:
            node.args = (node.args[0], second, *node.args[2:])
        elif first is not None and node.target in (aten.add.Tensor, aten.mul.Tensor):
            node.args = (node.args[1], first, *node.args[2:])


def clamps_with_numbers(network: fx.GraphModule) -> None:
    """Write clamp with constant bounds as hardtanh, or as relu where it has no upper bound."""
    for node in nodes_of(network.graph):
        if node.target not in (aten.clamp.Tensor, aten.clamp.default):
            continue
        bounds: list[float | None] = []
        for at in (1, 2):
            value = node.args[at] if len(node.args) > at else None
            number = value if isinstance(value, (int, float)) else _constant(network, value)
            if value is not None and number is None:
                break
            bounds.append(None if number is None else float(number))
        if len(bounds) < 2:
            continue
        source, (low, high) = node.args[0], bounds
        if low is None and source.target is aten.relu.default:  # clamped from below before
            source, low = source.args[0], 0.0
        if high is None and low == 0:
            node.target, node.args = aten.relu.default, (source,)
        elif low is not None and high is not None:
            node.target, node.args = aten.hardtanh.default, (source, low, high)
        else:
            node.target, node.args = aten.clamp.default, (source, low, high)
        node.kwargs = {}


def whole_operators(network: fx.GraphModule) -> None:
    """Write what exporters take apart as one operator: max pooling without its indices, and
    hard-swish.
    """
    for node in nodes_of(network.graph):
        source: Node = node.args[0] if node.args else None
        if node.target is operator.getitem and node.args[1] == 0:
            if source.target is aten.max_pool2d_with_indices.default:
                node.target, node.args = aten.max_pool2d.default, source.args
        elif node.target is aten.mul.Tensor and isinstance(node.args[1], fx.Node):
            for x, gate in (node.args, node.args[::-1]):
                if gate.target is aten.hardsigmoid.default and gate.args[0] is x:
                    node.target, node.args = aten.hardswish.default, (x,)
                    break
    network.graph.eliminate_dead_code()


def cancel_permutes(network: fx.GraphModule) -> None:
    """Remove pairs of permutes that undo each other."""
    for node in nodes_of(network.graph):
        source: Node = node.args[0] if node.args else None
        if (
            node.target is aten.permute.default
            and isinstance(source, fx.Node)
            and source.target is aten.permute.default
        ):
            inner, outer = (list(cast("list[int]", part.args[1])) for part in (source, node))
            if [inner[axis] for axis in outer] == list(range(len(outer))):
                node.replace_all_uses_with(source.args[0])
    network.graph.eliminate_dead_code()


def python_names(network: fx.GraphModule) -> None:
    """Give every parameter a path of Python names, in the order of the graph."""
    taken: dict[str, str] = {}
    for node in nodes_of(network.graph):
        if node.op != "get_attr":
            continue
        path = str(node.target)
        if path not in taken:
            parts = [re.sub(r"\W", "_", part) or "_" for part in path.split(".")]
            name = ".".join(parts)
            if len(parts) == 1 and not name.startswith("tensor_"):
                name = f"tensor_{name}"  # so that it is no attribute of a module, like "forward"
            while name in taken.values():
                name += "_"
            taken[path] = name
    values = {path: getattr_path(network, path) for path in taken}
    root = nn.Module()
    for path, name in taken.items():
        place(root, name, values[path])
    for node in nodes_of(network.graph):
        if node.op == "get_attr":
            node.target = taken[str(node.target)]
    for child in list(network._modules):
        del network._modules[child]
    network._parameters.clear()
    network._buffers.clear()
    for child, module in root.named_children():
        network.add_module(child, module)
    for child, parameter in root.named_parameters(recurse=False):
        network.register_parameter(child, parameter)
    for child, value in root.named_buffers(recurse=False):
        network.register_buffer(child, value)


def take_out_normalisation(network: fx.GraphModule) -> tuple[Tensor, Tensor] | None:
    """Remove the normalisation that a recorded network does itself, and return its gain and offset
    (`input_affine.take_out`); None where it does none.
    """
    taken = input_affine.take_out(network)
    if taken is not None:
        cancel_permutes(network)
        python_names(network)
        clean(network)
    return taken


def macs(network: fx.GraphModule) -> int:
    """Multiply-accumulates of one image, in convolutions and linear layers."""
    total = 0
    for node in nodes_of(network.graph):
        if is_layer(node) and isinstance(node.args[1], fx.Node):
            weight, out = node.args[1].meta["val"], node.meta["val"]
            total += out[:1].numel() // weight.shape[0] * weight.numel()
    return int(total)


def reverse_channels(network: fx.GraphModule) -> None:
    """Let the network read RGB images where it reads BGR: reverse its first convolution's inputs.

    Raises UnsupportedNetwork where something else reads the image.
    """
    image = next(node for node in nodes_of(network.graph) if node.op == "placeholder")
    for node in list(image.users):
        weight = node.args[1] if len(node.args) > 1 else None
        groups = node.args[6] if len(node.args) > 6 else 1
        if node.target not in CONVOLUTIONS or groups != 1 or not isinstance(weight, fx.Node):
            raise UnsupportedNetwork(
                "the order of colours cannot be reversed: the image is read by "
                f"{op_name(node)}, and not by a convolution",
                "export the network for RGB images",
            )
        value = getattr_path(network, str(weight.target))
        with torch.no_grad():
            value.copy_(value.flip(1))


@torch.inference_mode()
def _check(graph: fx.GraphModule, model: nn.Module, example: Tensor) -> None:
    """Raise UnsupportedNetwork unless the graph answers two images as the network does each."""
    alone = torch.cat([model(example[row : row + 1]).float() for row in range(2)])
    try:
        together = graph(example[:2])
    except Exception as error:  # a shape of the graph may fit one image alone
        raise UnsupportedNetwork(
            f"{type(model).__name__} was recorded for one image and fails on two: "
            f"{(str(error).strip() or type(error).__name__).splitlines()[0]}",
            "export it with a dynamic batch, or give it as a Python function that returns it",
        ) from error
    scale = float(alone.abs().max()) or 1.0
    if together.shape != alone.shape or float((together - alone).abs().max()) > SAME * scale:
        raise UnsupportedNetwork(
            f"{type(model).__name__} answers an image differently when it stands in a batch",
            "give a network whose answer to an image depends on that image alone",
        )
