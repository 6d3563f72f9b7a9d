"""The low-rank pairs of a student that is not trained yet: they follow from its shapes."""

from __future__ import annotations

import torch

from edgekd.networks import builders, factorising, low_rank_plan
from edgekd.networks.low_rank_plan import LayerPrices, Ranks
from edgekd.settings.compression_settings import PruneConfig
from edgekd.settings.model_specs import CHANNELS, ModelSpec


def planned(
    spec: ModelSpec,
    config: PruneConfig,
    multiple: int,
    px: int,
    classes: int,
    prices: LayerPrices,
) -> Ranks:
    """The pairs of a student in the widths of `spec`, for images of px x px.

    `multiple`: ranks are rounded down to it. `prices`: of layers on the device.
    """
    with torch.random.fork_rng(devices=[]):
        net = builders.create(spec.arch, {**spec.options, "num_classes": classes})
    layers = factorising.pointwise_layers(net, px, spec.options.get(CHANNELS, 3))
    return low_rank_plan.planned(layers, config.low_rank, multiple, prices)
