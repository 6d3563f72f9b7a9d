"""Captures a float network as a plain aten graph with torch.export, which follows its Python."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, fx, nn

from edgekd.core.errors import UnsupportedNetwork
from edgekd.quantization.graphs import getattr_path, nodes_of, output_of
from edgekd.quantization.plain_graph import plain


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
    graph.set_codegen(fx.graph.CodeGen())  # plain forward(x) instead of export's pytree plumbing
    outputs = output_of(graph).args[0]
    if isinstance(outputs, (list, tuple)):
        if len(outputs) != 1:
            raise UnsupportedNetwork(
                f"{type(model).__name__} has {len(outputs)} outputs; int8 training takes one",
                "strip adapters and auxiliary exits before QAT",
            )
        output_of(graph).args = (outputs[0],)
    for node in nodes_of(graph):
        if node.op == "call_module" and node.target == "_guards_fn":
            graph.erase_node(node)
    held = {
        str(node.target): getattr_path(captured, str(node.target))
        for node in nodes_of(graph)
        if node.op == "get_attr"
    }
    return plain(model, graph, {**dict(captured.named_buffers()), **held})
