"""Which candidate to try next: the best bets first, then what Optuna's TPE sampler expects most of.

The sampler reads a study in memory, made of the finished trials of the first rung. It names a
student and sizes; the nearest candidate that was not tried yet is taken.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

from edgekd.search.candidate import Candidate
from edgekd.search.entrants import Entrant

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# Best bets that are tried before the sampler is asked; with fewer scores it would guess.
STARTERS = 6
# Proposals that the sampler makes until one is of a student that has an untried size.
PROPOSALS = 20


def propose(
    entrants: Sequence[Entrant],
    tried: Set[Candidate],
    scores: Mapping[Candidate, float],
    seed: int,
) -> Entrant | None:
    """The next entrant for the first rung, or None where all were tried.

    `entrants`: in the order of best bets. `tried`: with a trial. `scores`: of finished ones.
    """
    free = [each for each in entrants if each.candidate not in tried]
    if not free:
        return None
    if len(tried) < STARTERS or len(scores) < STARTERS // 2:
        return free[0]
    by_student: dict[str, list[Entrant]] = {}
    for each in free:
        by_student.setdefault(each.candidate.student, []).append(each)
    for wanted in _sampled(entrants, scores, seed):
        if rows := by_student.get(wanted["student"]):
            return min(rows, key=lambda each: _distance(each.candidate, wanted))
    return free[0]


def _sampled(
    entrants: Sequence[Entrant], scores: Mapping[Candidate, float], seed: int
) -> list[dict[str, Any]]:
    """What the sampler proposes: a student, an input size and a pruned share each time."""
    import optuna
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = _space([each.candidate for each in entrants])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=1)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for candidate, score in scores.items():
            params = _params(candidate)
            study.add_trial(create_trial(params=params, distributions=space, value=score))
        return [dict(study.ask(space).params) for _ in range(PROPOSALS)]


def _params(candidate: Candidate) -> dict[str, Any]:
    return {
        "student": candidate.student,
        "input_px": candidate.input_px,
        "pruned": candidate.pruned,
    }


def _space(candidates: Sequence[Candidate]) -> dict[str, BaseDistribution]:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    sides = [each.input_px for each in candidates]
    cuts = [each.pruned for each in candidates]
    return {
        "student": CategoricalDistribution(sorted({each.student for each in candidates})),
        "input_px": IntDistribution(min(sides), max(sides), log=True),
        "pruned": FloatDistribution(min(cuts), max(cuts)),
    }


def _distance(candidate: Candidate, wanted: Mapping[str, Any]) -> tuple[float, Candidate]:
    """How far a candidate is from a proposal: one octave of size counts as half of the channels."""
    octaves = abs(math.log2(candidate.input_px / wanted["input_px"]))
    return octaves + 2 * abs(candidate.pruned - wanted["pruned"]), candidate
