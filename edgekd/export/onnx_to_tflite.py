"""Lowers the exported float ONNX to an int8 TFLite model.

`edgekd.export.onnx_writer` wrote the graph: it has some fifteen kinds of node, and every tensor is
named after its edge. So each tensor's learned range is found by name, and the layout is known. The
certify stage checks afterwards, operator by operator, the arithmetic that a file must keep.
"""

from __future__ import annotations

from edgekd.core.artifact_rows import TensorOrigin
from edgekd.core.artifacts import Exported
from edgekd.core.errors import UnsupportedNetwork
from edgekd.export.lowering_state import Lowering
from edgekd.export.node_lowerings import COMPOSITES, LOWERINGS
from edgekd.tflite.operators import Operator


def lower(exported: Exported, description: str) -> tuple[bytes, list[TensorOrigin]]:
    """The int8 .tflite of an exported network, and the edge that each of its tensors belongs to.

    Raises UnsupportedNetwork, naming the node and the edge, for a node that has no lowering, and
    ModelFileError for an ONNX that is broken or whose weights are not on the int8 grid.
    """
    state = Lowering(exported)
    if state.ports:
        inside = state.result_of(state.input)
        state.builder.op(Operator.QUANTIZE, [state.port(state.input)], [inside], None)
    else:
        state.result_of(state.input)
    for node in state.nodes:
        if node.output[0] in state.done or state.inside(node):
            continue
        parts = [part.op_type for part in state.parts(node)]
        kinds = tuple(sorted([*parts, node.op_type]))
        rule = COMPOSITES.get(kinds) if parts else LOWERINGS.get(node.op_type)
        if rule is None:
            raise UnsupportedNetwork(
                f"the ONNX op {node.op_type} -> {node.output[0]!r} has no int8 lowering",
                "take a student of the models that `edgekd models` lists",
            )
        rule.lower(state, node)
    for edge in state.outputs:
        state.write_output(edge)
        if state.ports:
            inner = state.activation(edge)
            state.builder.op(Operator.QUANTIZE, [inner], [state.port(edge)], None)
    answers, *further = state.outputs
    data = state.builder.finish(state.input, answers, description, further)
    return data, state.rows
