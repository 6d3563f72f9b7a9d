"""A student in the widths that structured pruning will leave, planned on random weights."""

from __future__ import annotations

import torch

from edgekd.networks import builders, channel_groups, pruning_plan, read_modules, widths
from edgekd.networks.pruning_plan import Limits
from edgekd.settings.compression_settings import PruneConfig
from edgekd.settings.loss_reading import Place
from edgekd.settings.model_specs import CHANNELS, ModelSpec


def narrowed(
    spec: ModelSpec,
    config: PruneConfig,
    multiple: int,
    classes: int,
    px: int,
    reads: tuple[Place, ...] = (),
) -> ModelSpec:
    """The student after all cuts of `config`, with its widths among the builder's options.

    The widths do not depend on the weights where channels compete within their group alone (scope
    "local" and a ratio). `multiple`: widths are rounded to it. `reads`: the places whose channels
    stay whole, since losses read them.

    Raises GateFailed when the target cannot be reached or nothing falls, and UnsupportedNetwork
    for a network that cannot be traced.
    """
    options = {**spec.options, "num_classes": classes}
    with torch.random.fork_rng(devices=[]):
        net, before = builders.create(spec.arch, options), builders.create(spec.arch, options)
    keep = read_modules.why_whole(spec, net, reads)
    found = channel_groups.survey(net, px, spec.options.get(CHANNELS, 3), "magnitude", keep)
    limits = Limits(config.scope, multiple, {group.name: group.width for group in found.groups})
    whole = pruning_plan.towards(config, found.groups, found.layers, limits, 1.0)
    pruning_plan.check_falls(whole, config, multiple)
    channel_groups.cut(found, whole, net)
    return spec.with_options({widths.KEY: widths.of(net, before)})
