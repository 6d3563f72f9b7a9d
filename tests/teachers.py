"""Untrained teachers, for tests of the code that asks a teacher or learns from one.

Their answers differ from image to image, as those of a trained teacher do.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from edgekd.core.artifacts import Network
from edgekd.networks import builders, weight_files


def teacher(arch: str, classes: int, px: int, seed: int = 0) -> Network:
    """A network of random weights. Its classifier's weights are large, so that its answers vary."""
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


def with_other_head(network: Network) -> Network:
    """The same network with other weights in its classifier."""
    net = builders.restore(network)
    nn.init.normal_(net.get_classifier().weight, std=0.5)  # type: ignore[operator]
    return dataclasses.replace(network, state=weight_files.to_bytes(net.state_dict()))
