"""The section on the operators that cost accuracy, after `edgekd report --why`."""

from __future__ import annotations

import dataclasses

from edgekd.core.records import present
from edgekd.quantization.sensitivity_record import OperatorSensitivity, Remedy
from edgekd.reporting import charts
from edgekd.reporting import text as fmt
from edgekd.reporting.report_record import Report

WORST_OPS = 12  # operators in the first table; the others are folded away


@dataclasses.dataclass(frozen=True)
class OpLine:
    """One operator. `bar` is SVG."""

    op: str
    name: str
    part: str | None
    bar: str
    kl: str
    kl_bound: str
    top1: str
    auc: str
    back: str
    rank: int


@dataclasses.dataclass(frozen=True)
class RemedyView:
    """One remedy that helped."""

    kind: str
    text: str
    next_step: str
    kl: str
    top1: str
    bound: bool
    sure: bool


@dataclasses.dataclass(frozen=True)
class WhyView:
    """The whole section. `aucs`: whether any operator has a change of AUC."""

    images: str
    split: str
    kl: str
    top1: str
    reading: str
    worst: list[OpLine]
    others: list[OpLine]
    aucs: bool
    remedies: list[RemedyView]
    tried: str
    seconds: str


def why(report: Report) -> WhyView | None:
    """The sensitivity run, or None where there was none."""
    block = present(report.why)
    if block is None:
        return None
    most = max((op.alone.kl for op in block.ops), default=0.0) or 1.0
    ops = [_op(op, most) for op in block.ops]
    seconds = present(block.seconds)
    return WhyView(
        images=fmt.whole(block.images),
        split=block.split,
        kl=fmt.tiny(block.whole.kl),
        top1=fmt.points(block.whole.top1),
        reading=block.reading,
        worst=ops[:WORST_OPS],
        others=ops[WORST_OPS:],
        aucs=any(op.alone.auc is not None for op in block.ops),
        remedies=[_remedy(remedy) for remedy in block.remedies],
        tried=fmt.whole(block.tried),
        seconds=fmt.NONE if seconds is None else fmt.seconds(seconds),
    )


def _op(op: OperatorSensitivity, most: float) -> OpLine:
    return OpLine(
        op=op.op,
        name=op.name,
        part=op.part,
        bar=charts.bar(op.alone.kl / most),
        kl=fmt.tiny(op.alone.kl),
        kl_bound=" to ".join(fmt.tiny(x) for x in op.alone.kl_ci95),
        top1=fmt.points(op.alone.top1),
        auc=fmt.signed(op.alone.auc) or fmt.NONE,
        back=fmt.tiny(op.without.kl_gained),
        rank=op.without.rank,
    )


def _remedy(remedy: Remedy) -> RemedyView:
    return RemedyView(
        kind=remedy.kind,
        text=remedy.text,
        next_step=remedy.next_step,
        kl=f"{fmt.tiny(remedy.kl_before)} → {fmt.tiny(remedy.kl_after)}",
        top1=fmt.points(remedy.top1),
        bound=remedy.bound,
        sure=remedy.sure,
    )
