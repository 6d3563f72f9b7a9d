"""From a float nn.Module to the plain aten graph that int8 training works on: exported, batch norm folded, tidied.

Every pass rewrites a graph in place and keeps the function it computes. Nothing here knows of quantisation, save that
global pooling takes the form the device profile asks for.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekd.core.errors import UnsupportedNetwork

aten = torch.ops.aten
Node = (
    Any  # an fx.Node; the type of its args is a union of twenty kinds that nothing here can narrow
)

# Nodes that give their first argument back in a network that is in eval form.
IDENTITY = frozenset(
    {
        aten.dropout.default,
        aten.dropout_.default,
        aten.feature_dropout.default,
        aten.alias.default,
        aten.clone.default,
        aten.contiguous.default,
        aten.detach.default,
        aten.detach_.default,
        aten.lift_fresh_copy.default,
    }
)
OUT_OF_PLACE: dict[Any, Any] = {
    aten.hardtanh_.default: aten.hardtanh.default,
    aten.relu_.default: aten.relu.default,
    aten.relu6_.default: aten.relu6.default,
    aten.add_.Tensor: aten.add.Tensor,
    aten.mul_.Tensor: aten.mul.Tensor,
    aten.hardswish_.default: aten.hardswish.default,
    aten.sigmoid_.default: aten.sigmoid.default,
    aten.hardsigmoid_.default: aten.hardsigmoid.default,
    aten.silu_.default: aten.silu.default,
    aten.sub_.Tensor: aten.sub.Tensor,
    aten.div_.Tensor: aten.div.Tensor,
}
CONVOLUTIONS = frozenset({aten.conv2d.default, aten.conv2d.padding})


def capture(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """The aten graph of `model` in eval form, for any batch size.

    `example`: float32 [n >= 2, channels, px, px]; only its shape matters. The graph has one input and one output and
    holds copies of the parameters. Raises UnsupportedNetwork when torch.export cannot follow the network's Python.
    """
    model.eval()
    batch = torch.export.Dim("batch", min=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # export warns about its own internals
            program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},))
            captured = program.module(check_guards=False)
    except Exception as error:  # torch.export raises many types; each one means that the network cannot be captured
        raise UnsupportedNetwork(
            f"{type(model).__name__} cannot be captured as a graph: {str(error).strip().splitlines()[0]}",
            "take a student whose forward has no control flow that depends on data",
        ) from error
    graph = captured.graph
    graph.set_codegen(fx.graph.CodeGen())  # plain forward(x) instead of export's pytree plumbing
    outputs = _output(graph).args[0]
    if isinstance(outputs, (list, tuple)):
        if len(outputs) != 1:
            raise UnsupportedNetwork(
                f"{type(model).__name__} gives {len(outputs)} outputs; int8 training takes one",
                "strip adapters and auxiliary exits before QAT",
            )
        _output(graph).args = (outputs[0],)
    for node in nodes_of(graph):
        if node.op == "call_module" and node.target == "_guards_fn":
            graph.erase_node(node)
    held = {
        str(node.target): getattr_path(captured, str(node.target))
        for node in nodes_of(graph)
        if node.op == "get_attr"
    }
    return plain(model, graph, {**dict(captured.named_buffers()), **held})


def plain(model: nn.Module, graph: fx.Graph, held: Mapping[str, Tensor]) -> fx.GraphModule:
    """A captured graph over copies of the parameters of `model` and of what else it reads (`held`: {path: value}), tidied."""
    root = nn.Module()
    for name, parameter in model.named_parameters():
        place(root, name, nn.Parameter(parameter.detach().clone()))
    for name, value in held.items():
        if isinstance(value, Tensor) and not has_path(root, name):
            copy = value.detach().clone()
            place(root, name, nn.Parameter(copy) if isinstance(value, nn.Parameter) else copy)
    network = fx.GraphModule(root, graph)
    drop_identities(network)
    make_functional(network)
    return network


def getattr_path(root: nn.Module, path: str) -> Any:
    """`root.a.b.c` for path "a.b.c"."""
    return operator.attrgetter(path)(root)


def has_path(root: nn.Module, path: str) -> bool:
    """Whether `getattr_path` would find something that is not None."""
    try:
        return getattr_path(root, path) is not None
    except AttributeError:
        return False


def place(root: nn.Module, path: str, value: Tensor) -> None:
    """Register a parameter or buffer at a dotted path, with the modules on the way."""
    *parents, name = path.split(".")
    module = root
    for parent in parents:
        if not hasattr(module, parent):
            module.add_module(parent, nn.Module())
        module = getattr(module, parent)
    if isinstance(value, nn.Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)


def _output(graph: fx.Graph) -> Node:
    return next(node for node in reversed(graph.nodes) if node.op == "output")


def nodes_of(graph: fx.Graph) -> list[Node]:
    """The nodes of a graph, as they are now: the graph may change while they are walked."""
    return list(graph.nodes)


def module_of(node: Node) -> str:
    """Dotted name of the module whose forward made this node, "" for the network's own forward."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def op_name(node: Node) -> str:
    """A node's op as messages name it: "conv2d", "gelu"."""
    return (
        str(getattr(node.target, "__name__", node.target))
        .removeprefix("aten.")
        .split(".")[0]
        .rstrip("_")
    )


def where(node: Node) -> str:
    """Where a node was made, as messages say it: "in module 'blocks.0'"."""
    return f"in module {module_of(node)!r}" if module_of(node) else "in the network's own forward"


def shape_of(node: Node) -> list[int]:
    """Shape of a node's value with the batch as 1: list of int. A fake-quantiser has the shape of what it reads."""
    node = node.args[0] if node.op == "call_module" else node
    dims = list(node.meta["val"].shape)
    return [
        1 if index == 0 and not isinstance(dim, int) else int(dim) for index, dim in enumerate(dims)
    ]


def drop_identities(network: fx.GraphModule) -> None:
    """Remove nodes that do nothing in eval form: dropout, clones, casts to the dtype a tensor has."""
    for node in nodes_of(network.graph):
        same_dtype = node.target is aten.to.dtype and node.args[1] is torch.float32
        if node.op == "call_function" and (node.target in IDENTITY or same_dtype):
            node.replace_all_uses_with(node.args[0])
            network.graph.erase_node(node)
    clean(network)


def make_functional(network: fx.GraphModule) -> None:
    """Replace in-place ops by plain ones: a fake-quantiser behind `relu_` must not see its own input overwritten.

    `view` becomes `reshape`: the graph was captured on NCHW memory and may be fed channels_last.
    """
    order = {node: index for index, node in enumerate(nodes_of(network.graph))}
    for node in nodes_of(network.graph):
        if node.target is aten.view.default:
            node.target = aten.reshape.default
        if node.target in OUT_OF_PLACE:
            node.target = OUT_OF_PLACE[node.target]
            for user in list(
                node.args[0].users
            ):  # whoever reads the input later meant the changed value
                if order[user] > order[node]:
                    user.replace_input_with(node.args[0], node)
    clean(network)


def fold_batch_norms(network: fx.GraphModule) -> None:
    """Fold each batch norm into the convolution or linear layer before it, so that what trains is what ships.

    w' = w * gamma / sqrt(var + eps), b' = (b - mean) * gamma / sqrt(var + eps) + beta, in float64. A batch norm that
    follows anything else stays (`edgekd.quantization.rewrites` makes it a layer of its own).
    """
    graph = network.graph
    for node in nodes_of(graph):
        if node.target is not aten.batch_norm.default:
            continue
        layer = node.args[0]
        foldable = layer.target in CONVOLUTIONS or layer.target is aten.linear.default
        if not foldable or len(layer.users) != 1 or len(layer.args[1].users) != 1:
            continue
        parameters: list[Any] = [
            None if arg is None else getattr_path(network, arg.target).detach().double()
            for arg in node.args[1:5]
        ]
        gamma, beta, mean, variance = parameters
        factor = (variance + float(node.args[7])).rsqrt()
        factor = factor if gamma is None else factor * gamma
        weight = getattr_path(network, layer.args[1].target)
        bias = bias_of(network, layer)
        old_bias = 0.0 if bias is None else bias.detach().double()
        new_bias = (old_bias - mean) * factor + (0.0 if beta is None else beta)
        with torch.no_grad():
            weight.copy_(
                (weight.double() * factor.reshape([-1] + [1] * (weight.ndim - 1))).to(weight.dtype)
            )
        set_bias(network, layer, new_bias.to(weight.dtype))
        layer.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(layer)
        graph.erase_node(node)
    clean(network)


def bias_of(network: fx.GraphModule, layer: Node) -> Tensor | None:
    """The bias parameter of a convolution or linear node, or None."""
    bias = layer.args[2] if len(layer.args) > 2 else None
    return None if bias is None else getattr_path(network, bias.target)


def set_bias(network: fx.GraphModule, layer: Node, value: Tensor) -> None:
    """Give a convolution or linear node this bias, float32 [out], beside its weight: `<module of the weight>.bias`."""
    bias = layer.args[2] if len(layer.args) > 2 else None
    if bias is not None:
        with torch.no_grad():
            getattr_path(network, bias.target).copy_(value)
        return
    name = str(layer.args[1].target).rpartition(".")[0]
    name = f"{name}.bias" if name else "bias"
    place(network, name, nn.Parameter(value))
    with network.graph.inserting_before(layer):
        node = network.graph.get_attr(name)
    node.meta["val"] = value
    layer.args = (*layer.args[:2], node, *layer.args[3:])


def give_all_biases(network: fx.GraphModule) -> None:
    """Give every convolution and linear layer a bias (zeros where it had none), as every TFLite int8 layer has one."""
    for node in nodes_of(network.graph):
        if (node.target in CONVOLUTIONS or node.target is aten.linear.default) and bias_of(
            network, node
        ) is None:
            weight = getattr_path(network, node.args[1].target)
            set_bias(network, node, torch.zeros(weight.shape[0], dtype=weight.dtype))
    clean(network)


def write_global_pooling(network: fx.GraphModule, form: str) -> None:
    """Write every spatial mean one way: "mean" -> adaptive_avg_pool2d, "average_pool" -> avg_pool2d over the whole map.

    A head written `x.mean((2, 3))` otherwise leaves a TRANSPOSE and a lone RELU6 in the file.
    """
    graph = network.graph
    for node in nodes_of(graph):
        if node.target is aten.mean.dim:
            source, dims = node.args[0], sorted(d % 4 for d in node.args[1])
            if len(shape_of(source)) != 4 or dims != [2, 3]:
                continue  # has no int8 rule; the quantizer says so by name
            keep = len(node.args) > 2 and bool(node.args[2])
        elif node.target is aten.adaptive_avg_pool2d.default and list(node.args[1]) == [1, 1]:
            source, keep = node.args[0], True
        else:
            continue
        height, width = shape_of(source)[2:]
        pooled = source.meta["val"].mean((2, 3), keepdim=True)
        with graph.inserting_before(node):
            if form == "mean":
                new = graph.call_function(aten.adaptive_avg_pool2d.default, (source, [1, 1]))
            else:
                new = graph.call_function(
                    aten.avg_pool2d.default, (source, [height, width], [1, 1])
                )
            new.meta = {**node.meta, "val": pooled}
            if not keep:
                flat = graph.call_function(aten.flatten.using_ints, (new, 1))
                flat.meta = {**node.meta}
                new = flat
        node.replace_all_uses_with(new)
        graph.erase_node(node)
    clean(network)


def append_softmax(network: fx.GraphModule) -> None:
    """End the graph in a softmax over the classes."""
    graph = network.graph
    output = _output(graph)
    logits = output.args[0]
    with graph.inserting_before(output):
        node = graph.call_function(aten.softmax.int, (logits, -1))
        node.meta = {**logits.meta}
    output.args = (node,)
    clean(network)


def fold_input(network: fx.GraphModule, gain: Tensor, offset: Tensor) -> None:
    """Make the first convolution read x' where the network read x_c = gain_c * x' + offset_c (float64 [channels]).

    Exact inside the image. At a padded border the pad means x' = 0, i.e. the pixel nearest to the mean, where the float
    network padded with the mean itself; int8 training starts after this and sees the graph that ships. Raises
    UnsupportedNetwork when the input goes anywhere but into convolutions (perhaps through a pad).
    """
    if bool((gain == 1).all()) and bool((offset == 0).all()):
        return
    readers: list[Node] = []
    pending = [next(node for node in nodes_of(network.graph) if node.op == "placeholder")]
    while pending:
        for user in pending.pop().users:
            if not isinstance(user.meta.get("val"), Tensor):
                continue  # asks for the batch size
            if user.target in (aten.pad.default, aten.constant_pad_nd.default):
                pending.append(user)
            elif user.target in CONVOLUTIONS:
                readers.append(user)
            else:
                raise UnsupportedNetwork(
                    f"the input goes into {op_name(user)} {where(user)}, so its normalisation cannot be folded",
                    "give mean = std = 0.5 for all channels in models/*.toml, or take a student that starts with a "
                    "convolution",
                )
    for layer in readers:
        weight = getattr_path(network, layer.args[1].target)
        groups = layer.args[6] if len(layer.args) > 6 else 1
        if groups != 1:
            raise UnsupportedNetwork(
                f"the first convolution {module_of(layer)!r} is grouped",
                "give mean = std = 0.5 for all channels in models/*.toml",
            )
        old = weight.detach().double()
        bias = bias_of(network, layer)
        shift = (old * offset.reshape(1, -1, 1, 1)).sum((1, 2, 3)) + (
            0.0 if bias is None else bias.detach().double()
        )
        with torch.no_grad():
            weight.copy_((old * gain.reshape(1, -1, 1, 1)).to(weight.dtype))
        set_bias(network, layer, shift.to(weight.dtype))
    clean(network)


def clean(network: fx.GraphModule) -> None:
    """Drop what nothing reads, check the graph, and compile it anew."""
    network.graph.eliminate_dead_code()
    network.graph.lint()
    network.recompile()
