"""Whether a recipe's pruning can succeed, found out before the student is trained.

Once a channel is cut: whether the network still runs, and has the size that was planned.
"""

from __future__ import annotations

import torch
from torch import nn

from edgekd.core.artifacts import Network
from edgekd.core.errors import UnsupportedNetwork
from edgekd.networks import (
    builders,
    channel_groups,
    network_size,
    pruning_plan,
)
from edgekd.networks.network_size import Size
from edgekd.networks.pruning_plan import Limits, Plan
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
    if not config.cuts or config.scope != "local":
        return
    with torch.random.fork_rng(devices=[]):
        net = builders.create(model.arch, {**model.options, "num_classes": classes})
        found = channel_groups.survey(net, px, model.options.get(CHANNELS, 3), "magnitude", {})
    full = {group.name: group.width for group in found.groups}
    limits = Limits(config.scope, multiple, full)
    whole = pruning_plan.towards(config, found.groups, found.layers, limits, 1.0)
    pruning_plan.check_falls(whole, config, multiple)


def size_after(net: nn.Module, plan: Plan, student: Network) -> Size:
    """Parameters and MACs of a network that was just cut.

    `student`: what it was before the first cut. Raises UnsupportedNetwork when the network does not
    run any more, or has other MACs than planned.
    """
    try:
        now = network_size.size(net, student.px, len(student.mean))
    except RuntimeError as error:
        raise UnsupportedNetwork(
            f"{student.arch} does not run after the cut: {str(error).splitlines()[0]}",
            "its code refers to channels by number: choose another student, or leave [prune] out",
        ) from error
    if now["macs"] != plan.macs:
        raise UnsupportedNetwork(
            f"{student.arch} has {now['macs']} MACs after the cut, and the plan said {plan.macs}",
            "EdgeKD cannot follow this network's graph: choose another student, or leave [prune] "
            "out",
        )
    return now
