"""Captures a float network as a plain aten graph with torch.export, which follows its Python."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekd.core.errors import UnsupportedNetwork
from edgekd.quantization.graphs import getattr_path, nodes_of, output_of
from edgekd.quantization.plain_graph import plain

aten = torch.ops.aten

# Calls of a graph of its own: its code ran under a context that changes nothing for float32.
WRAPPERS = frozenset({"wrap_with_autocast", "wrap_with_set_grad_enabled"})
# Checks that torch.export writes into a graph. They compute nothing.
ASSERTIONS = frozenset({aten._assert_tensor_metadata.default})


def export(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """Capture `model` in eval form as an aten graph for any batch size.

    `example`: float32 [n >= 2, channels, px, px]; only its shape matters. The graph has one input
    and one output and holds copies of the parameters. Raises UnsupportedNetwork when torch.export
    cannot follow the network's Python, or when it has several outputs.
    """
    model.eval()
    batch = torch.export.Dim("batch", min=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # export warns about its own internals
            program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},))
            captured = program.module(check_guards=False)
    except Exception as error:  # torch.export raises many types; all mean that it failed
        raise UnsupportedNetwork(
            f"{type(model).__name__} cannot be captured as a graph: "
            f"{str(error).strip().splitlines()[0]}",
            "take a student whose forward does not branch on its data",
        ) from error
    graph = captured.graph
    _inline_parts(captured)
    graph.set_codegen(fx.graph.CodeGen())  # plain forward(x) instead of export's pytree plumbing
    outputs = output_of(graph).args[0]
    if isinstance(outputs, (list, tuple)):
        if len(outputs) != 1:
            raise UnsupportedNetwork(
                f"{type(model).__name__} has {len(outputs)} outputs; int8 training takes one",
                "give a Python function that returns a module whose forward gives logits alone",
            )
        output_of(graph).args = (outputs[0],)
    for node in nodes_of(graph):
        is_guard = node.op == "call_module" and node.target == "_guards_fn"
        if is_guard or node.target in ASSERTIONS:
            graph.erase_node(node)
    for node in nodes_of(graph):
        if "val" in node.meta:
            node.meta["val"] = _for_one_image(node.meta["val"])
    held = {
        str(node.target): getattr_path(captured, str(node.target))
        for node in nodes_of(graph)
        if node.op == "get_attr"
    }
    return plain(model, graph, {**dict(captured.named_buffers()), **held})


def _inline_parts(captured: nn.Module) -> None:
    """Put back what torch.export moved into graphs of their own: code under `torch.autocast` or
    `torch.no_grad`.
    """
    graph: fx.Graph = captured.graph  # type: ignore[assignment]
    for node in nodes_of(graph):
        if str(node.target) not in WRAPPERS:
            continue
        place_of_part = next(
            index for index, arg in enumerate(node.args) if isinstance(arg, fx.Node)
        )
        part = getattr_path(captured, str(node.args[place_of_part].target))
        inputs = [inner for inner in nodes_of(part.graph) if inner.op == "placeholder"]
        values = dict(zip(inputs, node.args[place_of_part + 1 :], strict=True))
        with graph.inserting_before(node):
            result = graph.graph_copy(part.graph, values)
        results: Any = result
        for user in list(node.users):
            user.replace_all_uses_with(results[user.args[1]])
            graph.erase_node(user)
        called = node.args[place_of_part]
        graph.erase_node(node)
        graph.erase_node(called)


def _for_one_image(value: Any) -> Any:
    """What a node gives for a batch of one, without data: a tensor, a size, or several of them.

    A size that depends on the batch is an expression of it.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(_for_one_image(part) for part in value)
    if isinstance(value, torch.SymInt):
        expression: Any = value.node._expr  # before torch puts the example's batch into it
        return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))
    if not isinstance(value, Tensor):
        return value
    shape = [_for_one_image(size) for size in value.shape]
    return torch.empty(shape, dtype=value.dtype, device="meta")
