"""A trained int8 network with its resize inside.

Cutting and averaging keep the image's range, so nothing is learned: a trained network gets its
frame afterwards, and its other ranges and its weights stay as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import nn

from edgekd.core.artifact_rows import EdgeRange, LayerRow
from edgekd.core.artifacts import QuantNetwork
from edgekd.core.frames import Frame
from edgekd.quantization.qat_network import prepare
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
    return dataclasses.replace(qnet, frame=list(sides), ranges=ranges, layers=layers)
