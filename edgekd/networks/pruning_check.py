"""Whether a recipe's pruning can succeed, found out before the student is trained."""

from __future__ import annotations

import torch

from edgekd.networks import builders, channel_groups, pruning_plan
from edgekd.networks.pruning_plan import Limits
from edgekd.settings.compression_settings import PruneConfig
from edgekd.settings.model_specs import CHANNELS, ModelSpec


def check(model: ModelSpec, config: PruneConfig, multiple: int, px: int, classes: int) -> None:
    """Plan the whole cut on a student with random weights, and throw the plan away.

    Where channels compete within their group, the number that each group loses does not depend on
    the weights. Groups of one shape that compete with each other (scope "isomorphic") are not
    checked. The real plan may leave more channels whole than this one, since losses can read them.

    `multiple`: widths are rounded to it. Raises GateFailed when the target cannot be reached or
    nothing falls, and UnsupportedNetwork for a network that cannot be traced.
    """
    if config.scope != "local":
        return
    with torch.random.fork_rng(devices=[]):
        net = builders.create(model.arch, {**model.options, "num_classes": classes})
        found = channel_groups.survey(net, px, model.options.get(CHANNELS, 3), "magnitude", {})
    full = {group.name: group.width for group in found.groups}
    limits = Limits(config.scope, multiple, full)
    whole = pruning_plan.towards(config, found.groups, found.layers, limits, 1.0)
    pruning_plan.check_falls(whole, config, multiple)
