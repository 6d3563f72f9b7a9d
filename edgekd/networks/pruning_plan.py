"""The plan of a cut: which channels of which groups go, and what that leaves to compute. Nothing is cut here.

A group is a set of channels that can only go together: those of a layer, of the batch norm after it, of the layers that
read it, and of all that is added to it (Fang et al. 2023, DepGraph, arXiv 2301.12900). Standard library only.

Scopes. "local": every group loses the same share. "isomorphic": groups of one shape are ranked together, so that a
group of weaker channels loses more (Fang et al. 2024, arXiv 2407.04616). Ranking all groups together is not offered:
scores of groups of different shapes cannot be compared, and small networks were cut through (Torch-Pruning, issue 144).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from edgekd.core.errors import GateFailed

MOST = 0.75  # share of a group that may go: with a quarter left no layer is cut through
GRAIN = 200  # ratios tried when MACs are asked for: half a per cent apart, finer than a multiple of 8 of 960 channels
NAMED_LAYERS = 2  # of a group, in the printed plan


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution or linear layer: its multiply-accumulates an image, and its channels."""

    name: str
    macs: int
    outputs: int
    inputs: int
    depthwise: bool  # inputs go with outputs


@dataclasses.dataclass(frozen=True)
class Member:
    """What a group takes from a layer: `times` channels of its `side` ("out" or "in") for each of the group's."""

    layer: str
    side: str
    times: int = 1


@dataclasses.dataclass(frozen=True)
class Group:
    """Channels that go together. `scores`: one a channel, higher is worth more, mean 1. `whole`: why none may go, or ""."""

    name: str
    width: int
    shape: str  # groups of one shape are ranked together in scope "isomorphic"
    members: tuple[Member, ...]
    scores: tuple[float, ...] = ()
    whole: str = ""


@dataclasses.dataclass(frozen=True)
class Plan:
    """`cuts`: the channels (ascending) that each group loses; `macs`: multiply-accumulates before and after."""

    groups: tuple[Group, ...]
    cuts: Mapping[str, tuple[int, ...]]
    macs_before: int
    macs: int

    def rows(self) -> list[dict[str, object]]:
        """A row a group, as plain JSON: what it was, what it becomes, why it stays whole."""
        return [
            {
                "group": group.name,
                "before": group.width,
                "after": group.width - len(self.cuts.get(group.name, ())),
                "whole": group.whole,
            }
            for group in self.groups
        ]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What every plan keeps to: the scope, the multiple that widths are rounded to, and the widths before any cut."""

    scope: str
    multiple: int
    full: Mapping[str, int]


def by_ratio(
    groups: Sequence[Group], layers: Sequence[Layer], limits: Limits, ratio: float
) -> Plan:
    """The plan that takes about `ratio` of the channels that every group had before any cut."""
    kept = _kept(groups, limits, ratio)
    cuts = {
        group.name: _weakest(group, group.width - kept[group.name])
        for group in groups
        if kept[group.name] < group.width
    }
    before = sum(layer.macs for layer in layers)
    return Plan(
        tuple(groups),
        cuts,
        before,
        _macs(groups, layers, {name: len(cut) for name, cut in cuts.items()}),
    )


def by_macs(
    groups: Sequence[Group], layers: Sequence[Layer], limits: Limits, target: float
) -> Plan:
    """The plan of the smallest ratio with at most `target` multiply-accumulates.

    Raises GateFailed when even the largest ratio leaves more.
    """
    low, high = (
        0,
        round(MOST * GRAIN),
    )  # MACs never rise with the ratio, so the smallest one can be bisected
    hardest = by_ratio(groups, layers, limits, MOST)
    if hardest.macs > target:
        raise GateFailed(
            f"prune: {target / 1e6:.2f} M MACs cannot be reached: with {MOST:.0%} of every group gone "
            f"{hardest.macs / 1e6:.2f} M of {hardest.macs_before / 1e6:.2f} M are left",
            "raise prune.target_macs, or start from a smaller student",
        )
    while high - low > 1:
        middle = (low + high) // 2
        if by_ratio(groups, layers, limits, middle / GRAIN).macs > target:
            low = middle
        else:
            high = middle
    return by_ratio(groups, layers, limits, high / GRAIN)


def _kept(groups: Iterable[Group], limits: Limits, ratio: float) -> dict[str, int]:
    """How many channels each group keeps."""
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
    """What is left of each group when the weakest channels of all of them go, `ratio` of what there was."""
    everything = sorted((score, group.name) for group in groups for score in group.scores)
    gone = sum(limits.full[group.name] - group.width for group in groups)
    count = max(0, round(ratio * sum(limits.full[group.name] for group in groups)) - gone)
    lost = [name for _, name in everything[:count]]
    return {group.name: float(group.width - lost.count(group.name)) for group in groups}


def rounded(wanted: float, width: int, full: int, multiple: int) -> int:
    """The multiple next to `wanted` channels: at least a quarter of the `full` width, at most the `width` of now.

    A group that would grow, or whose width of now is no multiple and lies below the next one, stays as it is.
    """
    least = math.ceil(full * (1 - MOST) / multiple) * multiple
    return min(width, max(least, math.floor(wanted / multiple + 0.5) * multiple))


def _weakest(group: Group, count: int) -> tuple[int, ...]:
    order = sorted(range(group.width), key=lambda channel: (group.scores[channel], channel))
    return tuple(sorted(order[:count]))


def _macs(groups: Iterable[Group], layers: Iterable[Layer], lost: Mapping[str, int]) -> int:
    """Multiply-accumulates when each group has lost so many channels."""
    gone: dict[tuple[str, str], int] = {}
    for group in groups:
        for member in group.members:
            place = (member.layer, member.side)
            gone[place] = gone.get(place, 0) + member.times * lost.get(group.name, 0)
    total = 0
    for layer in layers:
        outputs = layer.outputs - gone.get((layer.name, "out"), 0)
        inputs = layer.inputs - gone.get((layer.name, "in"), 0)
        if layer.depthwise:
            total += layer.macs * outputs // layer.outputs
        else:
            total += layer.macs * outputs * inputs // (layer.outputs * layer.inputs)
    return total


def table(plan: Plan, title: str) -> str:
    """The plan as text: what each group loses, what stays whole and why, and what is left to compute."""
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
