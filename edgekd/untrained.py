"""The .tflite that a student will become, from random weights and random images: the real route, without training.

Shapes and ops do not depend on the weights, so what `check` says of this file holds for the trained one.
"""

from __future__ import annotations

import safetensors.numpy
import torch

from edgekd import networks, quantnet
from edgekd.artifacts import Exported
from edgekd.int8 import Int8Rules
from edgekd.lowering import lower
from edgekd.models import ModelSpec
from edgekd.onnx_writer import write_onnx

SEED = 0  # of the random images; ranges follow from them, shapes do not
DESCRIPTION = "EdgeKD int8, untrained"


def untrained_tflite(spec: ModelSpec, px: int, classes: int, rules: Int8Rules) -> bytes:
    """The int8 .tflite of an untrained student at px x px, three channels. Leaves torch's random state as it was.

    Raises UnsupportedNetwork, naming the op and the module, for a student that has no int8 form, and UnknownName or
    RecipeError for one that cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = networks.create(spec.arch, {**spec.options, "num_classes": classes})
        mean, std = networks.normalisation(spec, model)
        network = quantnet.prepare(model, px, mean, std, rules)
        quantnet.calibrate(network, [torch.rand(1, len(mean), px, px) * 2 - 1])
        done = quantnet.finish(network)
    state = safetensors.numpy.load(done.state)
    ranges = {row["edge"]: {key: row[key] for key in ("op", "scale", "zero_point")} for row in done.ranges}
    weights = {row["target"]: {"layer": row["name"], "op": row["op"], "source": row["source"], "axis": 0,
                               "scale": [float(value) for value in state[f"{row['name']}.scale"]]} for row in done.layers}
    data, _ = lower(Exported(px=px, ranges=ranges, weights=weights, onnx=write_onnx(network, state, "float"), qdq=b""),
                    DESCRIPTION)
    return data
