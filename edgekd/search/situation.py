"""All that a decision of a search rests on, and what its trials tell of scores and times."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edgekd.search import plan as planning
from edgekd.search import ranking
from edgekd.search.entrants import Entrant
from edgekd.search.ledger import ENDED_WELL, Kind, Trial
from edgekd.search.limits import Objective
from edgekd.search.plan import Costs, Plan
from edgekd.search.ranking import Scored


@dataclasses.dataclass(frozen=True)
class Situation:
    """All that a decision rests on.

    `left`: seconds until the deadline. `workers`: that work at present. `least_top1`: what a
    candidate must reach on the validation images to stay within the drop that is allowed. `seed`:
    of the sampler.
    """

    trials: Sequence[Trial]
    entrants: Sequence[Entrant]
    plan: Plan
    costs: Costs
    left: float
    workers: int
    objective: Objective
    least_top1: float | None = None
    seed: int = 0

    @property
    def epochs(self) -> int:
        """Of the whole training in float."""
        return self.plan.epochs[-1]

    @property
    def pruning(self) -> int:
        """The number of the rung that prunes."""
        return len(self.plan.epochs)

    def on(self, kind: Kind, rung: int = 0) -> list[Trial]:
        """The trials of one kind and rung that were not lost, closed or failed."""
        return [
            each
            for each in self.trials
            if each.task.kind is kind and each.task.rung == rung and each.state in ENDED_WELL
        ]

    def scores(self, trials: Sequence[Trial]) -> list[Scored]:
        """The scores of finished trials. A candidate has at most one at a rung."""
        forecasts = {member.candidate: member for each in self.entrants for member in each.members}
        found = []
        for each in trials:
            candidate, outcome = each.task.candidate, each.outcome
            if candidate is None or outcome is None or candidate not in forecasts:
                continue
            cost = ranking.cost(forecasts[candidate], self.objective)
            found.append(Scored(candidate, outcome.value, outcome.top1, each.task.rung, cost))
        return found

    def corrected(self) -> Situation:
        """The situation with what trials have measured, and without candidates that take too long.

        Who takes part does not change with the measured times, so that all workers agree on it.
        """
        field = planning.fitting(self.entrants, self.costs, self.plan.longest)
        now = dataclasses.replace(self, entrants=field)
        return dataclasses.replace(now, costs=_measured(now))


def _measured(now: Situation) -> Costs:
    """The costs, as far as trials have measured them."""
    found = {each.candidate: each for each in now.entrants}
    seconds = units = 0.0
    for each in now.trials:
        candidate, outcome = each.task.candidate, each.outcome
        if each.task.kind is Kind.RUNG and outcome and outcome.epochs and candidate in found:
            seconds += outcome.seconds
            units += outcome.epochs * (found[candidate].macs + planning.BESIDE)
    costs = dataclasses.replace(now.costs, unit=seconds / units) if units else now.costs
    tuned = {each.task.candidate for each in now.on(Kind.RUNG, now.pruning)}
    bare = dataclasses.replace(costs, build=0.0)
    built = []
    for each in now.trials:
        candidate, outcome = each.task.candidate, each.outcome
        if each.task.kind is not Kind.BUILD or outcome is None or candidate not in found:
            continue
        entrant = found[candidate]
        training = bare.finish(entrant, now.epochs, tuned=candidate in tuned)
        built.append(outcome.seconds - training - outcome.epochs * costs.epoch(entrant))
    # A build that came from the store took no time, and tells nothing.
    longest = max((took for took in built if took > 0), default=0.0)
    return dataclasses.replace(costs, build=longest) if longest else costs
