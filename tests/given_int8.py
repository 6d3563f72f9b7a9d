"""A network that was brought, calibrated for int8 as `edgekd convert` does, and its file."""

from __future__ import annotations

import numpy as np

from edgekd.core.artifacts import LiteModel, Network, QuantNetwork
from edgekd.export import onnx_export, tflite_convert
from edgekd.networks import builders
from edgekd.quantization import post_training, qat_network, quick_rounding
from edgekd.quantization.restoring import rebuild


def calibrated(network: Network, images: np.ndarray, rounding: str = "quick") -> QuantNetwork:
    """`images`: uint8 [n, px, px, 3]. `rounding`: as qat.rounding."""
    prepared = qat_network.prepare(builders.restore(network), network.px, network.mean, network.std)
    batches = [builders.normalised(images, network.mean, network.std)]
    if rounding == "quick":
        quick_rounding.quantize(prepared, batches)
    else:
        qat_network.calibrate(prepared, batches)
        post_training.quantize(prepared, batches)
    done = qat_network.finish(prepared)
    return QuantNetwork(
        arch=network.arch,
        options=network.options,
        px=network.px,
        mean=network.mean,
        std=network.std,
        history=[],
        rules=prepared.rules.to_dict(),
        ranges=done.ranges,
        layers=done.layers,
        facts={},
        state=done.state,
    )


def file_of(qat: QuantNetwork) -> LiteModel:
    """Its .tflite."""
    return tflite_convert.convert(onnx_export.from_network(qat, rebuild(qat)))
