"""Writes the graph of a QatNetwork as ONNX, batch 1, in one of three forms.

    FLOAT      no quantization nodes; weights are code * scale, so they lie on the int8 grid; input
               float32 x'
    UNROUNDED  as FLOAT, with the weights of the float network
    QDQ        QuantizeLinear and DequantizeLinear at every edge, int8 weights, int32 biases; input
               uint8 pixels

x' = scale * (pixel - 128 - zero_point) is what the int8 input tensor means
(`edgekd.tflite.int8_rules.input_range`).

The graph is written operator by operator and not by torch.onnx. So every tensor carries the name of
its edge, equal networks give equal bytes, and quantized operators need no translation.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgekd.export.onnx_emitters import EMITTERS
from edgekd.export.onnx_graph import OnnxForm, OnnxGraph
from edgekd.quantization.fakequant_placement import is_compute
from edgekd.quantization.graphs import Node, nodes_of, shape_of
from edgekd.quantization.qat_network import QatNetwork

# The first opset with everything used here that both ONNX Runtime 1.17 and onnx2tf read. Per-axis
# Q/DQ came with 13.
OPSET = 17
IR_VERSION = 9  # belongs to opset 17 to 20; older ONNX Runtimes on boards refuse newer values


def write_onnx(network: QatNetwork, state: dict[str, np.ndarray], form: OnnxForm) -> bytes:
    """The network as ONNX bytes. Equal arguments give equal bytes.

    `state`: the arrays of `Finished.state`, or (UNROUNDED) of `float_network.float_state`. Tensors
    are named after their edges: "input", "output", else the name of the module. Its outputs are the
    answers, "output", and behind them the further ones.
    """
    writer = OnnxGraph(network, state, form)
    quantized = _edge_after(network)
    inputs, results = [], dict[str, onnx.ValueInfoProto]()
    for node in nodes_of(network.graph.graph):
        if node.op == "placeholder":
            inputs.append(writer.input(node))
        elif node.op == "call_module" and "edge" in node.meta:
            writer.edge(node)
            if (edge := str(node.meta["edge"])) in writer.outputs:
                shape = shape_of(node.args[0])
                results[edge] = helper.make_tensor_value_info(edge, TensorProto.FLOAT, shape)
        elif is_compute(node):
            edge = quantized.get(node, node.name)
            inner = form is OnnxForm.QDQ and edge in writer.outputs
            writer.names[node] = EMITTERS[node.target](
                writer, node, f"{edge}_float" if inner else edge
            )
    outputs = [results[edge] for edge in writer.outputs]
    graph = helper.make_graph(writer.nodes, "edgekd", inputs, outputs, writer.initializers)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="edgekd",
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _edge_after(network: QatNetwork) -> dict[Node, str]:
    return {
        node.args[0]: str(node.meta["edge"])
        for node in nodes_of(network.graph.graph)
        if "edge" in node.meta
    }
