"""The plan of a cut: which channels of which groups go, and how much computation remains.

A group is a set of channels that can only go together: those of a layer, of the batch norm after
it, of the layers that read it, and of all that is added to it (DepGraph, Fang et al. 2023, arXiv
2301.12900). Nothing is cut here, and only the standard library is needed.

There are two scopes. In "local" every group loses the same share of its channels. In "isomorphic"
groups of one shape are ranked together, so that a group with weaker channels loses more (Fang et
al. 2024, arXiv 2407.04616). Ranking all groups together is not offered: scores of groups of
different shapes cannot be compared, and layers of small networks were cut to nothing
(Torch-Pruning, issue 144).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from edgekd.core.errors import GateFailed
from edgekd.settings.compression_settings import PruneConfig

# Largest share of a group that may go, so that every layer keeps a quarter of its channels.
MOST = 0.75
# Ratios are tried in steps of 1 / GRAIN when a number of MACs is asked for. Half a per cent is
# finer than a step of 8 in 960 channels.
GRAIN = 200
# Layers of a group that the printed plan names.
NAMED_LAYERS = 2

Scope = Literal["local", "isomorphic"]
Side = Literal["out", "in"]  # of a layer: its outputs or its inputs


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution or linear layer: multiply-accumulates (MACs) of one image, and its channels."""

    name: str
    macs: int
    outputs: int
    inputs: int
    depthwise: bool  # inputs and outputs go together


@dataclasses.dataclass(frozen=True)
class Member:
    """A layer in a group: it loses `times` channels on its `side` for each channel of the group."""

    layer: str
    side: Side
    times: int = 1


@dataclasses.dataclass(frozen=True)
class Group:
    """Channels that go together.

    `shape`: groups of one shape are ranked together in the scope "isomorphic". `scores`: the worth
    of each channel; higher is more, and their mean is 1. `whole`: why none may go, or "".
    """

    name: str
    width: int
    shape: str
    members: tuple[Member, ...]
    scores: tuple[float, ...] = ()
    whole: str = ""


@dataclasses.dataclass(frozen=True)
class Plan:
    """`cuts`: the channels that each group loses, ascending. `macs`: MACs of one image after it."""

    groups: tuple[Group, ...]
    cuts: Mapping[str, tuple[int, ...]]
    macs_before: int
    macs: int


@dataclasses.dataclass(frozen=True)
class Limits:
    """What all plans of a build share.

    `multiple`: widths are rounded to it. `full`: the width of each group before the first cut.
    """

    scope: Scope
    multiple: int
    full: Mapping[str, int]


def towards(
    config: PruneConfig,
    groups: Sequence[Group],
    layers: Sequence[Layer],
    limits: Limits,
    share: float,
    dense: float | None = None,
) -> Plan:
    """The plan that covers `share` (0 to 1) of the way from the dense student to the target.

    `dense`: its MACs; None means those of `layers`. Raises what `by_macs` raises.
    """
    if config.ratio:
        return by_ratio(groups, layers, limits, config.ratio * share)
    macs = dense if dense is not None else sum(layer.macs for layer in layers)
    target = config.target_macs * (macs if config.target_macs <= 1 else 1)
    return by_macs(groups, layers, limits, macs - (macs - target) * share)


def check_falls(whole: Plan, config: PruneConfig, multiple: int) -> None:
    """Raise GateFailed for a plan that leaves all MACs. `whole`: the plan of all cuts together."""
    if whole.macs < whole.macs_before:
        return
    wanted = f"ratio {config.ratio:g}" if config.ratio else f"target_macs {config.target_macs:g}"
    raise GateFailed(
        f"prune: MACs do not fall: {wanted} leaves all {whole.macs_before / 1e6:.2f} M. "
        f"Widths are rounded to multiples of {multiple}; the plan says which layers stay whole "
        "and why",
        "ask for a larger cut (--set prune.ratio=0.3 or --set prune.target_macs=0.65), or set a "
        "smaller prune.multiple",
    )


def by_ratio(
    groups: Sequence[Group], layers: Sequence[Layer], limits: Limits, ratio: float
) -> Plan:
    """The plan that takes about `ratio` of the channels that groups had before the first cut."""
    kept = kept_widths(groups, limits, ratio)
    cuts = {
        group.name: _weakest(group, group.width - kept[group.name])
        for group in groups
        if kept[group.name] < group.width
    }
    macs = _macs(groups, layers, {name: len(cut) for name, cut in cuts.items()})
    return Plan(tuple(groups), cuts, sum(layer.macs for layer in layers), macs)


def by_macs(
    groups: Sequence[Group], layers: Sequence[Layer], limits: Limits, target: float
) -> Plan:
    """The plan with the smallest ratio that leaves at most `target` MACs.

    Raises GateFailed when even the largest ratio leaves more.
    """
    # Bisection: MACs never rise with the ratio.
    low, high = 0, round(MOST * GRAIN)
    hardest = by_ratio(groups, layers, limits, MOST)
    if hardest.macs > target:
        raise GateFailed(
            f"prune: {target / 1e6:.2f} M MACs cannot be reached: without {MOST:.0%} of every "
            f"group, {hardest.macs / 1e6:.2f} M of {hardest.macs_before / 1e6:.2f} M remain",
            "raise prune.target_macs, or start from a smaller student",
        )
    while high - low > 1:
        middle = (low + high) // 2
        if by_ratio(groups, layers, limits, middle / GRAIN).macs > target:
            low = middle
        else:
            high = middle
    return by_ratio(groups, layers, limits, high / GRAIN)


def kept_widths(groups: Iterable[Group], limits: Limits, ratio: float) -> dict[str, int]:
    """How many channels each group keeps: {group: channels}.

    In the scope "local" the numbers do not depend on the scores.
    """
    by_shape: dict[str, list[Group]] = {}
    for group in groups:
        by_shape.setdefault(group.shape if limits.scope == "isomorphic" else group.name, []).append(
            group
        )
    kept: dict[str, int] = {}
    for alike in by_shape.values():
        free = [group for group in alike if not group.whole]
        wanted = (
            _ranked(free, limits, ratio)
            if len(free) > 1
            else {group.name: limits.full[group.name] * (1 - ratio) for group in free}
        )
        kept |= {
            group.name: rounded(
                wanted[group.name], group.width, limits.full[group.name], limits.multiple
            )
            if not group.whole
            else group.width
            for group in alike
        }
    return kept


def _ranked(groups: Sequence[Group], limits: Limits, ratio: float) -> dict[str, float]:
    """How many channels each group keeps when the weakest ones of all of these groups go.

    As many go as make `ratio` of the channels before the first cut, earlier cuts included.
    """
    everything = sorted((score, group.name) for group in groups for score in group.scores)
    gone = sum(limits.full[group.name] - group.width for group in groups)
    count = max(0, round(ratio * sum(limits.full[group.name] for group in groups)) - gone)
    lost = [name for _, name in everything[:count]]
    return {group.name: float(group.width - lost.count(group.name)) for group in groups}


def rounded(wanted: float, width: int, full: int, multiple: int) -> int:
    """The multiple nearest to `wanted` channels, at least a quarter of `full`, at most `width`.

    `full`: the width before the first cut. `width`: the present one, which stays when the nearest
    multiple is larger.
    """
    least = math.ceil(full * (1 - MOST) / multiple) * multiple
    return min(width, max(least, math.floor(wanted / multiple + 0.5) * multiple))


def _weakest(group: Group, count: int) -> tuple[int, ...]:
    order = sorted(range(group.width), key=lambda channel: (group.scores[channel], channel))
    return tuple(sorted(order[:count]))


def layer_widths(
    groups: Iterable[Group], layers: Iterable[Layer], lost: Mapping[str, int]
) -> dict[str, tuple[int, int]]:
    """{layer: (outputs, inputs)} after each group has lost so many channels."""
    gone: dict[tuple[str, str], int] = {}
    for group in groups:
        for member in group.members:
            place = (member.layer, member.side)
            gone[place] = gone.get(place, 0) + member.times * lost.get(group.name, 0)
    return {
        layer.name: (
            layer.outputs - gone.get((layer.name, "out"), 0),
            layer.inputs - gone.get((layer.name, "in"), 0),
        )
        for layer in layers
    }


def _macs(groups: Iterable[Group], layers: Sequence[Layer], lost: Mapping[str, int]) -> int:
    """MACs of one image after each group has lost so many channels."""
    total = 0
    widths = layer_widths(groups, layers, lost)
    for layer in layers:
        outputs, inputs = widths[layer.name]
        if layer.depthwise:
            total += layer.macs * outputs // layer.outputs
        else:
            total += layer.macs * outputs * inputs // (layer.outputs * layer.inputs)
    return total


def table(plan: Plan, title: str) -> str:
    """The plan as text: what each group loses, which stay whole and why, and the remaining MACs."""
    share = plan.macs / plan.macs_before - 1
    lines = [
        f"{title}: {plan.macs_before / 1e6:.2f} M -> {plan.macs / 1e6:.2f} M MACs ({share:+.1%})"
    ]
    longest = max(len(group.name) for group in plan.groups)
    whole: dict[str, list[str]] = {}
    for group in plan.groups:
        lost = len(plan.cuts.get(group.name, ()))
        if lost:
            others = list(
                dict.fromkeys(
                    member.layer for member in group.members if member.layer != group.name
                )
            )
            more = f" and {len(others) - NAMED_LAYERS} more" if len(others) > NAMED_LAYERS else ""
            lines.append(
                f"  {group.name:<{longest}} {group.width:>5} -> {group.width - lost:>5}  with "
                f"{', '.join(others[:NAMED_LAYERS])}{more}"
            )
        else:
            whole.setdefault(
                group.whole or "nothing to take at this ratio and multiple", []
            ).append(group.name)
    return "\n".join(
        [*lines, *(f"  whole, {reason}: {', '.join(names)}" for reason, names in whole.items())]
    )
