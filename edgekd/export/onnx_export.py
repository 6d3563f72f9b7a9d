"""Exports a trained int8 network: float ONNX on the int8 grid, its Q/DQ form, and the learned
ranges.
"""

from __future__ import annotations

import dataclasses

import safetensors.numpy
from torch import nn

from edgekd.core.artifact_rows import ExportedRange, ExportedWeight
from edgekd.core.artifacts import Exported, QuantNetwork
from edgekd.export.onnx_graph import OnnxForm
from edgekd.export.onnx_writer import write_onnx
from edgekd.export.published_onnx import with_recipe
from edgekd.quantization.qat_network import QatNetwork
from edgekd.quantization.restoring import restore


def export(qnet: QuantNetwork, model: nn.Module) -> Exported:
    """Both ONNX forms of a trained int8 network.

    `model`: the float network that its builder makes, with any weights. Raises WeightsError when
    the artifact does not fit the network.
    """
    return from_network(qnet, restore(qnet, model))


def from_network(qnet: QuantNetwork, network: QatNetwork) -> Exported:
    """The same for a network that exists already, in phase "frozen"."""
    exported = float_form(qnet, network)
    state = safetensors.numpy.load(bytes(qnet.state))
    qdq = with_recipe(write_onnx(network, state, OnnxForm.QDQ), exported)
    return dataclasses.replace(exported, qdq=qdq)


def float_form(qnet: QuantNetwork, network: QatNetwork) -> Exported:
    """The float form alone, which is all that the .tflite is made from; `qdq` is empty."""
    state = safetensors.numpy.load(bytes(qnet.state))
    ranges: dict[str, ExportedRange] = {
        row["edge"]: {"op": row["op"], "scale": row["scale"], "zero_point": row["zero_point"]}
        for row in qnet.ranges
    }
    weights: dict[str, ExportedWeight] = {
        row["target"]: {
            "layer": row["name"],
            "op": row["op"],
            "source": row["source"],
            "axis": 0,
            "scale": [float(value) for value in state[f"{row['name']}.scale"]],
        }
        for row in qnet.layers
    }
    return Exported(
        px=network.px,
        ranges=ranges,
        weights=weights,
        io_dtype=network.rules.io_dtype,
        onnx=write_onnx(network, state, OnnxForm.FLOAT),
        qdq=b"",
    )
