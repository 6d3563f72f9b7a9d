"""Which pointwise layers become two narrower ones, and at which rank: the plan.

A pointwise layer is a 1x1 convolution or a linear layer: a matrix of C_out x C_in that is applied
at each position. A product of two matrices of C_out x r and r x C_in costs fewer multiply-adds
where r is small (Jaderberg et al. 2014, arXiv 1405.3866). The two layers cost an operator and a map
of r channels more, so that on some devices they take longer than the one. Each layer is therefore
priced by the device's latency model, the one that `edgekd check` predicts with.

Ranks follow from shapes alone, so that the network is known before it is trained. Only the standard
library is needed here; `low_rank` changes networks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from edgekd.core.artifacts import Json
from edgekd.core.errors import GateFailed

# A layer is divided where its own predicted time falls by this share. Every division costs
# accuracy, and less lies within what a model of whole networks knows about one layer. No other
# value was compared.
LEAST_GAIN = 0.1
SLOW = f"would not be faster by {LEAST_GAIN:.0%} on the device"
# Bytes of one bias of an int8 layer.
BIAS = 4
# Layers that the printed plan names for each reason.
NAMED = 3


@dataclasses.dataclass(frozen=True)
class LayerPrices:
    """What parts of a layer's work cost on a device, in milliseconds.

    `pointwise_mac`: a multiply-add of a layer that is applied at several positions. `vector_mac`:
    of one that is applied once. `parameter_byte`, `moved_byte`: of constants, and of activations
    that are read or written. `op`: of an operator.
    """

    pointwise_mac: float
    vector_mac: float
    parameter_byte: float
    moved_byte: float
    op: float

    def layer(self, inputs: int, outputs: int, read: int, written: int) -> float:
        """Milliseconds of an int8 layer. `read`, `written`: positions of its input and output."""
        mac = self.vector_mac if written == 1 else self.pointwise_mac
        return (
            written * inputs * outputs * mac
            + (inputs * outputs + BIAS * outputs) * self.parameter_byte
            + (read * inputs + written * outputs) * self.moved_byte
            + self.op
        )


@dataclasses.dataclass(frozen=True)
class Pointwise:
    """A pointwise layer of a network. `read`, `written`: positions of its input and its output.

    `whole`: why it cannot be divided, or "".
    """

    name: str
    inputs: int
    outputs: int
    read: int
    written: int
    whole: str = ""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return self.written * self.inputs * self.outputs

    def macs_at(self, rank: int) -> int:
        """The same of the two layers that take its place."""
        return self.written * rank * (self.inputs + self.outputs)

    def rank(self, share: float, multiple: int) -> int:
        """The largest multiple at which the two layers have `share` of its MACs; 0 for none."""
        wanted = share * self.inputs * self.outputs / (self.inputs + self.outputs)
        return int(wanted / multiple) * multiple

    def ms(self, prices: LayerPrices) -> float:
        """Predicted milliseconds of the layer."""
        return prices.layer(self.inputs, self.outputs, self.read, self.written)

    def ms_at(self, rank: int, prices: LayerPrices) -> float:
        """The same of the two layers that take its place."""
        return prices.layer(self.inputs, rank, self.read, self.written) + prices.layer(
            rank, self.outputs, self.written, self.written
        )


@dataclasses.dataclass(frozen=True)
class Division:
    """A layer that becomes two, of C_in -> `rank` -> C_out channels.

    `ms_before`, `ms`: its predicted time on the device, and that of the two.
    """

    layer: Pointwise
    rank: int
    ms_before: float
    ms: float

    def row(self) -> dict[str, Json]:
        """The division as published JSON holds it (`edgekd.assessment.check_record.PairRow`)."""
        layer = self.layer
        return {
            "layer": layer.name,
            "inputs": layer.inputs,
            "rank": self.rank,
            "outputs": layer.outputs,
            "macs_before": layer.macs,
            "macs": layer.macs_at(self.rank),
            "ms_before": self.ms_before,
            "ms": self.ms,
        }


@dataclasses.dataclass(frozen=True)
class Ranks:
    """The plan. `whole`: {reason: the pointwise layers that stay as they are}."""

    share: float
    divided: tuple[Division, ...]
    whole: Mapping[str, tuple[str, ...]]

    @property
    def ranks(self) -> dict[str, int]:
        """{layer: rank}, as the builder of a network takes it."""
        return {one.layer.name: one.rank for one in self.divided}

    @property
    def kept_whole(self) -> dict[str, int]:
        """{reason: how many layers stay whole}."""
        return {reason: len(names) for reason, names in self.whole.items()}


def planned(layers: Iterable[Pointwise], share: float, multiple: int, prices: LayerPrices) -> Ranks:
    """The plan in which two layers have at most `share` of the MACs of the one that they replace.

    `multiple`: ranks are rounded down to it.
    """
    divided: list[Division] = []
    whole: dict[str, list[str]] = {}
    for layer in layers:
        rank = layer.rank(share, multiple)
        made = Division(layer, rank, layer.ms(prices), layer.ms_at(rank, prices))
        why = layer.whole
        if not why and not rank:
            why = f"too narrow for a rank of {multiple} at {share:g} of the multiply-accumulates"
        elif not why and made.ms > (1 - LEAST_GAIN) * made.ms_before:
            why = SLOW
        if why:
            whole.setdefault(why, []).append(layer.name)
        else:
            divided.append(made)
    return Ranks(share, tuple(divided), {reason: tuple(names) for reason, names in whole.items()})


def check_gains(plan: Ranks) -> None:
    """Raise GateFailed for a plan that divides no layer."""
    if plan.divided:
        return
    counted = (f"{count} {reason}" for reason, count in plan.kept_whole.items())
    why = "; ".join(counted) or "the network has no pointwise layer"
    lower = f"ask for lower ranks (--set prune.low_rank={plan.share / 2:.2g}), "
    raise GateFailed(
        f"prune: low_rank {plan.share:g} divides no layer: {why}",
        f"{lower if SLOW in plan.whole else ''}set a smaller prune.multiple, or leave "
        "prune.low_rank out",
    )


def table(plan: Ranks, energy: Mapping[str, float], title: str) -> str:
    """The plan as text: each divided layer, and how many stay whole, by reason.

    `energy`: {layer: the share of the variance of its outputs that its rank keeps}.
    """
    macs_before = sum(one.layer.macs for one in plan.divided)
    macs = sum(one.layer.macs_at(one.rank) for one in plan.divided)
    ms_before = sum(one.ms_before for one in plan.divided)
    ms = sum(one.ms for one in plan.divided)
    head = (
        f"{title}: {_count(len(plan.divided))} {macs_before / 1e6:.2f} M -> {macs / 1e6:.2f} M "
        f"MACs, {ms_before:.3g} -> {ms:.3g} ms as predicted for the device"
    )
    rows = [_cells(one, energy) for one in plan.divided]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [head]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  " + "  ".join(cells).rstrip())
    for reason, names in plan.whole.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines.append(f"  whole, {len(names)} {reason}: {', '.join(names[:NAMED])}{more}")
    return "\n".join(lines)


def _count(divided: int) -> str:
    named = {0: "no layer becomes two,", 1: "1 layer becomes two,"}
    return named.get(divided, f"{divided} layers become two each,")


def _cells(one: Division, energy: Mapping[str, float]) -> Sequence[str]:
    layer = one.layer
    kept = [f"{energy[layer.name]:.2%} of its variance"] if layer.name in energy else []
    return (
        layer.name,
        f"{layer.inputs} -> {one.rank} -> {layer.outputs}",
        f"{layer.macs / 1e6:.3f} -> {layer.macs_at(one.rank) / 1e6:.3f} M MACs",
        f"{one.ms_before:.3g} -> {one.ms:.3g} ms",
        *kept,
    )
