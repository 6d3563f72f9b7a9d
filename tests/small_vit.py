"""timm's small vision transformer, with weights as a self-supervised backbone has them."""

from __future__ import annotations

from pathlib import Path

import torch

from edgekd.networks import builders, weight_files

VIT, PX = "test_vit", 32


def saved(folder: Path) -> Path:
    """A new file in `folder` with weights of a network without a classifier."""
    torch.manual_seed(0)
    net = builders.create(VIT, {"num_classes": 0, "img_size": PX})
    path = folder / "vit.safetensors"
    path.write_bytes(weight_files.to_bytes(net.state_dict()))
    return path
