"""A student that was pruned to a latency, or has low-rank pairs of layers, in words."""

from __future__ import annotations

from edgekd.assessment.check_record import LatencyCut
from edgekd.core.records import present
from edgekd.reporting import text
from edgekd.reporting.report_record import Report


def latency_cut(report: Report) -> LatencyCut | None:
    """The cut that keeps `prune.target_latency`; None where there is no such target."""
    network = report.models.get("pruned")
    return None if network is None else present(network.latency)


def sentence(report: Report) -> str:
    """The target of latency with what is predicted before and after pruning, and the low-rank
    pairs; "" without either.
    """
    cut = latency_cut(report)
    return " ".join(filter(None, ["" if cut is None else f"{cut}.", _pairs(report)]))


def _pairs(report: Report) -> str:
    """How many layers became pairs, what they save, and what of their outputs stays; "" without."""
    network = report.models.get("pruned")
    pairs = None if network is None else present(network.pairs)
    if network is None or pairs is None:
        return ""
    whole = sum((present(network.kept_whole) or {}).values())
    if not pairs:
        return f"No pointwise layer became a low-rank pair; {whole} stayed whole."
    macs = sum(row.macs for row in pairs) / sum(row.macs_before for row in pairs) - 1
    before, after = sum(row.ms_before for row in pairs), sum(row.ms for row in pairs)
    least = min(present(row.energy) or 0.0 for row in pairs)
    layers = text.plural(len(pairs) + whole, "pointwise layer")
    return (
        f"{len(pairs)} of {layers} became low-rank pairs: {macs:+.0%} of their "
        f"multiply-accumulates, {before:.3g} to {after:.3g} ms as predicted for {report.profile}; "
        f"each keeps at least {least:.1%} of the variance of its outputs."
    )


def missed(report: Report) -> str:
    """That the finished file misses the target, in a sentence; "" where it keeps it.

    The plan is made before training, on random weights. A file can differ from it: a group of
    channels that `prune.importance` cannot score stays whole, and a compiler may place operators
    otherwise.
    """
    cut, device = latency_cut(report), present(report.device)
    if cut is None or device is None or device.predicted.latency_ms is None:
        return ""
    if device.predicted.latency_ms <= cut.target_ms:
        return ""
    return (
        f"prune.target_latency: the finished file is predicted to take {device.predicted.spoken} "
        f"on {report.profile}, and {cut.target_ms:g} ms were asked for. Ask for less, or leave out "
        "prune.importance"
    )
