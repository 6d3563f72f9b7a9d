"""Teachers that have learnt nothing and still answer otherwise about every image: what asks and follows them is under test."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edgekd.core.artifacts import Network
from edgekd.networks import builders, weight_files


def teacher(arch: str, classes: int, px: int, seed: int = 0) -> Network:
    """A network of random weights whose batch norms have seen nothing: its answers differ from image to image."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {
        "num_classes": classes,
        **({"img_size": px} if arch.startswith("vit") else {}),
    }
    net = builders.create(arch, options)
    nn.init.normal_(net.get_classifier().weight, std=0.5)  # type: ignore[operator]
    return Network(
        arch, options, px, [0.5] * 3, [0.5] * 3, [], {}, weight_files.to_bytes(net.state_dict())
    )
