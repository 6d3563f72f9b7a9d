"""Float networks: built from a name and options, restored from artifacts, read at their taps.

A `Network` artifact holds the builder's name, its options and a safetensors state, so that it is
rebuilt without pickle. Importing timm takes 2 s, and a recorded network does not need it: what does
lies in `timm_networks`.
"""

from __future__ import annotations

import copy
import importlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekd.core.artifacts import ONNX, Network
from edgekd.networks import recorded_graph
from edgekd.networks.weight_files import from_bytes
from edgekd.settings.model_specs import CHANNELS, ModelSpec, Options

# The methods by which modules of timm merge their branches.
MERGES = ("fuse", "reparameterize", "switch_to_deploy")


def create(arch: str, options: Options) -> nn.Module:
    """A network with random weights, in channels_last memory format and in eval mode.

    `options`: the builder's, with "edits" (see `student_edits`), "widths" (see `widths`),
    "low_rank" (see `low_rank`) and "head_features" (see `token_pooling`).

    Raises UnknownName for a name that timm does not have, and RecipeError for a size or an option
    that the network refuses.
    """
    if arch == recorded_graph.ARCH:
        return recorded_graph.build(options[recorded_graph.GRAPH]).eval()
    from edgekd.networks import timm_networks

    return timm_networks.create(arch, options)


def reparameterised(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose training-time branches are merged into one convolution each.

    That concerns RepVGG (arXiv 2101.03697) and MobileOne. The copy computes the same up to float32
    rounding. A network without such branches is only copied.
    """
    model.eval()
    if not any(hasattr(module, name) for module in model.modules() for name in MERGES):
        return copy.deepcopy(model)
    from edgekd.networks import timm_networks

    return timm_networks.reparameterised(model)


def restore(network: Network) -> nn.Module:
    """The network of an artifact, in eval mode."""
    if network.arch == ONNX:
        # Imported by name: a stage's key holds the versions of what its code imports, and a new
        # ONNX Runtime concerns builds with an ONNX teacher alone, whose artifacts name the version.
        return importlib.import_module("edgekd.networks.onnx_network").restore(network)
    model = create(network.arch, network.options)
    model.load_state_dict(from_bytes(network.state))
    return model


def normalisation(spec: ModelSpec, model: nn.Module) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, for inputs in 0..1.

    They are the spec's, else timm's for these weights. A network with one input channel gets their
    averages: its first convolution is the sum of the original over three channels (timm), which
    gives the same result where the three means and deviations are alike, as they nearly are.
    """
    configuration = getattr(model, "pretrained_cfg", {}) or {}
    mean = spec.mean or configuration.get("mean", (0.5, 0.5, 0.5))
    std = spec.std or configuration.get("std", (0.5, 0.5, 0.5))
    if spec.options.get(CHANNELS) == 1:
        mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
    return [float(x) for x in mean], [float(x) for x in std]


def normalised(images: NDArray[np.uint8], mean: list[float], std: list[float]) -> Tensor:
    """uint8 [n, h, w, c] as float32 [n, c, h, w]: (x / 255 - mean) / std, in channels_last."""
    # Copied: torch warns about memory that must not be written.
    x = torch.from_numpy(np.array(images, order="C")).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)


def taps(spec: ModelSpec, model: nn.Module) -> list[str]:
    """Names of the modules that adapters read: the spec's, else those of timm's feature table."""
    if spec.taps:
        return list(spec.taps)
    table = getattr(model, "feature_info", None)
    rows = table if isinstance(table, list) else table.get_dicts() if table is not None else []
    return [row["module"] for row in rows]
