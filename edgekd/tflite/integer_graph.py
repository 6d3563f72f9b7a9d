"""Whether a graph is integer throughout."""

from __future__ import annotations

from edgekd.tflite.flatbuffer import LiteGraph, LiteOp
from edgekd.tflite.int8_rules import FLOAT_OPS

INTEGER_TYPES = frozenset({"INT8", "UINT8", "INT16", "INT32", "INT64", "BOOL"})


def is_full_integer(graph: LiteGraph) -> bool:
    """Whether every tensor is an integer and no operator converts between number formats.

    A QUANTIZE at a uint8 port is allowed (`is_port_conversion`).
    """
    used = {index for op in graph.ops for index in (*op.inputs, *op.outputs) if index >= 0}
    return all(
        graph.tensors[index].dtype in INTEGER_TYPES
        for index in used | set(graph.inputs) | set(graph.outputs)
    ) and not any(op.name in FLOAT_OPS and not is_port_conversion(op, graph) for op in graph.ops)


def is_port_conversion(op: LiteOp, graph: LiteGraph) -> bool:
    """Whether an operator is the QUANTIZE between int8 and a uint8 input or output of the graph."""
    if op.name != "QUANTIZE":
        return False
    ends = (graph.tensors[op.inputs[0]].dtype, graph.tensors[op.outputs[0]].dtype)
    return (ends == ("UINT8", "INT8") and op.inputs[0] in graph.inputs) or (
        ends == ("INT8", "UINT8") and op.outputs[0] in graph.outputs
    )
