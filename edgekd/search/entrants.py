"""Who takes part: candidates that share one float training are one entrant.

A network at half its channels, or in another number format, begins as the same float network at
the same input size. It is trained once, however many candidates come of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from edgekd.core.number_formats import NumberFormat
from edgekd.search.candidate import Candidate
from edgekd.search.forecast import Forecast
from edgekd.search.limits import Limits, Objective

# Candidates of one training that are followed to the end, where smaller ones are worth a try.
MOST_MEMBERS = 3


@dataclasses.dataclass(frozen=True)
class Entrant:
    """One float training. `members`: the candidates that may come of it, the best bet first.

    `macs`: multiply-accumulates of the network that is trained, for one image.
    """

    members: tuple[Forecast, ...]
    macs: float

    @property
    def candidate(self) -> Candidate:
        """The candidate that stands for the training in trials."""
        return self.members[0].candidate

    @property
    def pruned(self) -> bool:
        """Whether a candidate that may come of it is pruned."""
        return any(member.candidate.pruned for member in self.members)


def trunk(candidate: Candidate) -> Candidate:
    """The unpruned int8 candidate with the same float training."""
    return dataclasses.replace(candidate, pruned=0.0, number_format=NumberFormat.INT8)


def likely(within: Sequence[Forecast], limits: Limits) -> tuple[Forecast, ...]:
    """The forecasts whose estimate keeps the limit of latency.

    Others keep it at the favourable end of their interval alone. They are tried where no estimate
    keeps it.
    """
    allowed = limits.latency_ms
    if allowed is None:
        return tuple(within)
    found = tuple(each for each in within if each.latency_ms is None or each.latency_ms <= allowed)
    return found or tuple(within)


def of(
    fitting: Sequence[Forecast], every: Iterable[Forecast], objective: Objective
) -> tuple[Entrant, ...]:
    """The entrants in the order in which they deserve a try.

    `fitting`: the forecasts that are `likely`, in the order of the space. `every`: all forecasts.
    The first to come is the largest network of each student, then the second largest of each, and
    so on: within a limit, more arithmetic is the best guess at more accuracy.
    """
    whole = {each.candidate: each.macs for each in every}
    families: dict[Candidate, list[Forecast]] = {}
    for each in fitting:
        families.setdefault(trunk(each.candidate), []).append(each)
    students: dict[str, list[Entrant]] = {}
    for root, members in families.items():
        macs = whole.get(root) or max(_unpruned(each) for each in members)
        entrant = Entrant(_members(members, objective), float(macs))
        students.setdefault(root.student, []).append(entrant)
    for rows in students.values():
        rows.sort(key=lambda each: -max(member.macs for member in each.members))
    longest = max(map(len, students.values()), default=0)
    return tuple(
        rows[turn] for turn in range(longest) for rows in students.values() if turn < len(rows)
    )


def _members(members: Sequence[Forecast], objective: Objective) -> tuple[Forecast, ...]:
    """For accuracy the least pruned alone, since cutting gains none."""
    best_first = sorted(members, key=lambda each: (_plainness(each.candidate), each.macs))
    return tuple(best_first[: 1 if objective is Objective.ACCURACY else MOST_MEMBERS])


def _plainness(candidate: Candidate) -> tuple[float, bool]:
    return candidate.pruned, candidate.number_format is not NumberFormat.INT8


def _unpruned(forecast: Forecast) -> float:
    """Arithmetic falls with the square of the channels that are left."""
    return forecast.macs / (1 - forecast.candidate.pruned) ** 2
