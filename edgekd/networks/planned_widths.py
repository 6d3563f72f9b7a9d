"""The widths that a student will have after structured pruning, planned on random weights."""

from __future__ import annotations

import torch
from torch import nn

from edgekd.networks import builders, channel_groups, pruning_plan, widths
from edgekd.networks.pruning_plan import Limits
from edgekd.settings.compression_settings import PruneConfig
from edgekd.settings.model_specs import CHANNELS, ModelSpec

# The side of the image on which the groups are found. They do not depend on it, and a small one is
# quick; below 32 pixels a network of stride 32 has no pixel left.
PX = 64


def planned(
    spec: ModelSpec, config: PruneConfig, multiple: int, classes: int, px: int = PX
) -> widths.Widths:
    """The widths of a student after all cuts of `config`, as in `edgekd.networks.widths`.

    They do not depend on the weights where channels compete within their group alone (scope
    "local" and a ratio). Losses can keep more channels than are kept here.

    Raises GateFailed when the target cannot be reached or nothing falls, and UnsupportedNetwork
    for a network that cannot be traced.
    """
    with torch.random.fork_rng(devices=[]):
        options = {**spec.options, "num_classes": classes}
        net = builders.create(spec.arch, options)
        before: nn.Module = builders.create(spec.arch, options)
    found = channel_groups.survey(net, px, spec.options.get(CHANNELS, 3), "magnitude", {})
    limits = Limits(config.scope, multiple, {group.name: group.width for group in found.groups})
    whole = pruning_plan.towards(config, found.groups, found.layers, limits, 1.0)
    pruning_plan.check_falls(whole, config, multiple)
    channel_groups.cut(found, whole, net)
    return widths.of(net, before)
