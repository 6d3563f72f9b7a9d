"""Small int8 networks for tests: random weights, and ranges calibrated on random images."""

from __future__ import annotations

from typing import Any

import torch

from edgekd.core.artifacts import QuantNetwork
from edgekd.networks import builders
from edgekd.quantization import qat_network
from edgekd.tflite.int8_rules import Int8Rules

HALF = [0.5] * 3


def calibrated(
    arch: str,
    px: int,
    classes: int = 3,
    rules: Int8Rules | None = None,
    edits: dict[str, str] | None = None,
    more: dict[str, Any] | None = None,
) -> QuantNetwork:
    """The QuantNetwork of a timm network that was calibrated and not trained.

    `more`: further options of its builder.
    """
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "num_classes": classes,
        **({"edits": edits} if edits else {}),
        **(more or {}),
    }
    network = qat_network.prepare(builders.create(arch, options), px, HALF, HALF, rules)
    qat_network.calibrate(
        network, [torch.rand(16, 3, px, px, generator=torch.Generator().manual_seed(1)) * 2 - 1]
    )
    done = qat_network.finish(network)
    return QuantNetwork(
        arch=arch,
        options=options,
        px=px,
        mean=HALF,
        std=HALF,
        history=[],
        rules=network.rules.to_dict(),
        ranges=done.ranges,
        layers=done.layers,
        facts={},
        state=done.state,
    )
