"""Whether a .tflite holds integers only and is written as TensorFlow's converter writes it."""

from __future__ import annotations

from edgekd.core.errors import ModelFileError
from edgekd.proof.certificate_record import Form
from edgekd.proof.failures import Failures, Place
from edgekd.tflite.canonical import deviations
from edgekd.tflite.flatbuffer import LiteGraph
from edgekd.tflite.int8_rules import FLOAT_OPS
from edgekd.tflite.integer_graph import INTEGER_TYPES, is_port_conversion


def check_form(data: bytes | memoryview, graph: LiteGraph, failures: Failures) -> Form:
    """Check that the file is full integer and in canonical form.

    Each deviation is a failure that names its operator or tensor. QUANTIZE is allowed only between
    a uint8 input or output and the int8 graph.
    """
    used = {index for op in graph.ops for index in (*op.inputs, *op.outputs) if index >= 0}
    for index in sorted(used | set(graph.inputs) | set(graph.outputs)):
        tensor = graph.tensors[index]
        if tensor.dtype not in INTEGER_TYPES:
            failures.add("full_integer", "tensor", tensor.name, "an integer type", tensor.dtype)
    writers = {output: op.name for op in graph.ops for output in op.outputs}
    for op in graph.ops:
        twice = op.name == writers.get(op.inputs[0]) == "TRANSPOSE"  # one order would do
        if (op.name in FLOAT_OPS and not is_port_conversion(op, graph)) or twice:
            failures.add(
                "full_integer",
                "op",
                op.label(graph.tensors),
                "no operator that only converts or reorders, except QUANTIZE at a uint8 port",
                op.name,
            )
    try:
        found = deviations(data)
    except ModelFileError as error:  # two tensors share a name, so nothing else can be compared
        failures.add(
            "canonical", "op", "graph", "tensors with unique names", error.what, error.next_step
        )
        return Form(1)
    for row in found:
        # a certificate knows tensors and operators only; metadata is listed as "op"
        place: Place = "tensor" if row.where == "tensor" else "op"
        failures.add("canonical", place, row.name, row.expected, row.found)
    return Form(len(found))


def check_ports(dtype: str, graph: LiteGraph, failures: Failures) -> None:
    """Check that input and output have the type that the device profile asks for, "int8" or
    "uint8".
    """
    for index in (*graph.inputs, *graph.outputs):
        tensor = graph.tensors[index]
        if tensor.dtype != dtype.upper():
            failures.add("full_integer", "tensor", tensor.name, dtype.upper(), tensor.dtype)
