"""The step of pruning that makes low-rank pairs of wide pointwise layers, on a lesson's images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import torch
from torch import nn

from edgekd.core.artifacts import Json
from edgekd.networks import factorising, low_rank_plan
from edgekd.networks.factorising import Basis
from edgekd.networks.low_rank_plan import LayerPrices, Ranks
from edgekd.settings.compression_settings import PruneConfig
from edgekd.training.lesson import Lesson
from edgekd.training.processes import team


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The pairs that were made. `ranks`: {layer: rank}. `facts`: what the report says of them."""

    ranks: dict[str, int]
    facts: dict[str, Json]


def carry_out(
    net: nn.Module,
    taught: Lesson,
    config: PruneConfig,
    multiple: int,
    prices: LayerPrices,
    say: Callable[[str], None],
) -> Pairs:
    """Plan the pairs, print the plan, and put them into the network.

    `multiple`: ranks are multiples of it. Raises GateFailed where no layer is divided and no
    channels were cut either, and UnsupportedNetwork for a network that does not run with pairs.
    """
    render = taught.feed.render
    px, channels = render.px, render.mean.numel()
    layers = factorising.pointwise_layers(net, px, channels)
    plan = low_rank_plan.planned(layers, config.low_rank, multiple, prices)
    if not config.cuts:
        low_rank_plan.check_gains(plan)
    bases = _bases(net, taught, plan.ranks, config.batches)
    energy = {name: bases[name].energy(rank) for name, rank in plan.ranks.items()}
    say(low_rank_plan.table(plan, energy, "prune: low ranks"))
    factorising.factorise(net, plan.ranks, bases, px, channels)
    return Pairs(plan.ranks, _facts(plan, energy))


def _bases(net: nn.Module, taught: Lesson, names: Iterable[str], batches: int) -> dict[str, Basis]:
    """The directions of these layers' outputs over training batches. The network stays in eval
    mode, so that the outputs are those of its finished batch norms.
    """
    taught.compute.place(net.eval())
    with torch.no_grad(), factorising.watched(net, names) as found:
        for _, batch in zip(range(batches), taught.feed.epoch(0), strict=False):
            net(batch.images)
    net.cpu()
    for moments in found.values():  # of the images of all processes
        moments.count, moments.total, moments.outer = (
            team().mean(part) for part in (moments.count, moments.total, moments.outer)
        )
    return {name: moments.basis() for name, moments in found.items()}


def _facts(plan: Ranks, energy: dict[str, float]) -> dict[str, Json]:
    return {
        "pairs": [{**one.row(), "energy": energy[one.layer.name]} for one in plan.divided],
        "kept_whole": dict(plan.kept_whole),
    }
