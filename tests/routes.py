"""One network at every station of the int8 route, for the tests of the route."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from torch import nn

from edgekd.core.artifacts import Exported, LiteModel, QuantNetwork
from edgekd.export.onnx_export import export
from edgekd.export.tflite_convert import convert
from edgekd.quantization.qat_network import predict
from edgekd.quantization.restoring import restore


@dataclasses.dataclass(frozen=True)
class Route:
    """One network at every station of the route, and the test images with the trained network's
    answers.
    """

    qnet: QuantNetwork
    exported: Exported
    lite: LiteModel
    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    model: Callable[[], nn.Module]


def follow(
    qnet: QuantNetwork, model: Callable[[], nn.Module], pixels: np.ndarray, labels: np.ndarray
) -> Route:
    exported = export(qnet, model())
    logits = predict(restore(qnet, model()), pixels)
    return Route(qnet, exported, convert(exported), pixels, labels, logits, model)
