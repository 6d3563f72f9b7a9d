"""A trained int8 network with its resize inside.

A weighted mean keeps the image's range, so nothing is learned: a trained network gets its frame
afterwards, and its other ranges and its weights stay as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import safetensors.torch
from torch import nn

from edgekd.core.artifact_rows import EdgeRange, LayerRow
from edgekd.core.artifacts import Blob, QuantNetwork
from edgekd.core.frames import Frame
from edgekd.quantization.frame_reduction import is_given
from edgekd.quantization.qat_network import QatNetwork, prepare
from edgekd.quantization.qat_structure import layer_state
from edgekd.tflite.int8_rules import Int8Rules


def framed(qnet: QuantNetwork, model: nn.Module, sides: Sequence[int]) -> QuantNetwork:
    """The trained network behind a frame [height, width], or without one: [].

    `model`: the float network that its builder makes, with any weights.
    """
    frame = Frame.of(sides, qnet.px)
    rules = Int8Rules.from_dict(qnet.rules)
    network = prepare(model, qnet.px, qnet.mean, qnet.std, rules, frame=frame)
    known = {row["edge"]: row for row in qnet.ranges}
    ranges: list[EdgeRange] = [
        known[name] if name in known else {**known["input"], "edge": name, "op": op}
        for name, op in network.writers.items()
    ]
    layers: list[LayerRow] = [
        {"name": layer.name, "op": layer.op, "source": layer.source, "target": layer.target}
        for layer in network.layers
    ]
    state = _with_filters(qnet.state, network)
    return dataclasses.replace(qnet, frame=list(sides), ranges=ranges, layers=layers, state=state)


def _with_filters(state: Blob, network: QatNetwork) -> bytes:
    """The learned weights, with those of the frame's filters, as `qat_network.finish` writes both.

    Filters of another frame are left out.
    """
    whole = safetensors.torch.load(bytes(state))
    kept = {name: value for name, value in whole.items() if not is_given(name)}
    for layer in network.layers:
        if is_given(layer.name):
            kept |= layer_state(network.graph, layer)
    return safetensors.torch.save(kept)
