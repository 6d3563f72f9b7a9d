"""A student that was pruned to a latency, in words."""

from __future__ import annotations

from edgekd.assessment.check_record import LatencyCut
from edgekd.core.records import present
from edgekd.reporting.report_record import Report


def latency_cut(report: Report) -> LatencyCut | None:
    """The cut that keeps `prune.target_latency`; None where there is no such target."""
    network = report.models.get("pruned")
    return None if network is None else present(network.latency)


def sentence(report: Report) -> str:
    """The target, and what is predicted before and after pruning; "" without a target."""
    cut = latency_cut(report)
    return "" if cut is None else f"{cut}."


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
