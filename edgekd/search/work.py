"""What the tasks of a search do, and what a worker needs to know to decide what comes next."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from edgekd.core import context
from edgekd.core.artifacts import Json
from edgekd.core.records import to_json
from edgekd.evaluation.accuracy_record import Figures
from edgekd.search import decisions, finalist, rung, shared_teacher
from edgekd.search import plan as planning
from edgekd.search.candidate import Candidate
from edgekd.search.decisions import Decision
from edgekd.search.entrants import Entrant
from edgekd.search.finishing import Finishing
from edgekd.search.ledger import Kind, Ledger, Outcome, State, Trial
from edgekd.search.limits import Limits, Objective
from edgekd.search.plan import Costs, Plan
from edgekd.search.record import FinalistRow
from edgekd.search.shared_teacher import Teaching
from edgekd.search.situation import Situation
from edgekd.search.worker import Check

if TYPE_CHECKING:
    from edgekd.search.trial import Trials  # torch

PLAN, CLOCK, TEACHING = "plan", "clock", "teaching"  # facts of the study
# Seconds of a build beside its training: 74 with 624 test images of 96 px, on one busy core.
BUILD = 60.0


@dataclasses.dataclass(frozen=True)
class Terms:
    """What a search is about.

    `finishing`: how long a whole training is, at most, and what comes behind it. `fewest`: epochs
    of the first rung, at least. `images`: for training. `teacher_sides`: of the teacher's input, as
    `shared_teacher.sizes`.
    """

    entrants: tuple[Entrant, ...]
    limits: Limits
    objective: Objective
    finishing: Finishing
    fewest: int
    images: int
    workers: int
    seed: int
    teacher_sides: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class TimeSpan:
    """When the search has started, and when it has to be done, in seconds of Unix time."""

    start: float
    end: float


class SearchWork:
    """The work of one worker.

    `trials`: trains candidates, and is given `advance` as its progress. `build(candidate)`: makes a
    whole build. `announce` and `announce_teaching`: are told a new plan, and how the teacher is
    asked, with the seconds left. `now()`: Unix time in seconds.
    """

    def __init__(
        self,
        terms: Terms,
        ledger: Ledger,
        build: Callable[[Candidate], FinalistRow],
        announce: Callable[[Plan, float], None],
        announce_teaching: Callable[[Teaching, float], None],
        progress: context.Progress = context.silent,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.terms, self.ledger, self.build, self.announce = terms, ledger, build, announce
        self.announce_teaching = announce_teaching
        self.trials: Trials | None = None
        self.plan: Plan | None = None
        self._progress, self._now = progress, now
        self._check: Check = _nothing
        self._span = TimeSpan(0.0, 0.0)
        self._reserve = 0.0

    # --- time -------------------------------------------------------------------------------------

    def begin(self, budget: float, since: float) -> None:
        """Set when the search has to be done, or join one that is under way.

        `since`: when the command was started, in seconds of Unix time; its forecasts count, too.
        """
        kept = self.ledger.fact(CLOCK)
        if kept is None or kept["end"] <= self._now():
            self.ledger.set_fact(CLOCK, {"start": since, "end": since + budget})
            if not any(each.task.kind is Kind.RUNG for each in self.ledger.trials()):
                self.ledger.set_fact(PLAN, None)  # nothing rests on it yet

    def stop(self) -> None:
        """Give back the rest of the time, where no other worker is at it: the next command has its
        whole budget.
        """
        if not any(each.state is State.RUNNING for each in self.ledger.trials()):
            self.ledger.set_fact(CLOCK, {"start": 0.0, "end": 0.0})

    def left(self, kind: Kind) -> float:
        """Seconds until work of this kind has to stop."""
        rest = self._span.end - self._now()
        return rest - self._reserve if kind is Kind.RUNG else rest

    # --- deciding ---------------------------------------------------------------------------------

    def decide(self, trials: Sequence[Trial]) -> Decision:
        """What to do next."""
        clock = self.ledger.fact(CLOCK)
        self._span = msgspec.convert(clock, TimeSpan)
        if self.left(Kind.BUILD) <= 0:
            return Decision(ended=True)
        if (first := decisions.before_plan(trials)) is not None:
            return first
        situation = self.situation(trials)
        if situation is None:
            return Decision(ended=True)
        situation = situation.corrected()
        self._reserve = decisions.reserve(situation)
        return decisions.decide(situation)

    def situation(self, trials: Sequence[Trial]) -> Situation | None:
        """All that a decision rests on, or None where the time is too short for a plan."""
        teacher = next(
            each for each in trials if each.task == decisions.TEACHER and each.outcome is not None
        )
        assert teacher.outcome is not None
        if self.plan is None:
            self.plan = self._planned(teacher.outcome.facts)
        if self.plan is None:
            return None
        busy = {each.worker for each in trials if each.state is State.RUNNING} | {self.ledger.me}
        allowed, figures = self.terms.limits.drop_points, teacher.outcome.facts["figures"]
        return Situation(
            trials,
            self.terms.entrants,
            self.plan,
            self._costs(teacher.outcome.facts),
            self.left(Kind.BUILD),
            max(self.terms.workers, len(busy)),
            self.terms.objective,
            None if allowed is None or figures is None else teacher.outcome.top1 - allowed / 100,
            self.terms.seed,
        )

    def _costs(self, teacher: Json) -> Costs:
        """What work is expected to cost before a trial was measured."""
        return Costs(teacher["unit"], BUILD, self.terms.finishing)

    def _planned(self, teacher: Json) -> Plan | None:
        """The plan that the study remembers; the first worker to see the teacher ready makes it.

        Others that make it at the same moment make the same one.
        """
        if (kept := self.ledger.fact(PLAN)) is None:
            left = self._span.end - max(self._span.start, teacher["ended"])
            terms = self.terms
            made = planning.make(
                left,
                self._costs(teacher),
                terms.entrants,
                terms.finishing.epochs,
                terms.workers,
                terms.fewest,
            )
            if made is None:
                return None
            self.ledger.set_fact(PLAN, msgspec.to_builtins(made))
            kept = self.ledger.fact(PLAN)
            self.announce(msgspec.convert(kept, Plan), self.left(Kind.BUILD))
        return msgspec.convert(kept, Plan)

    # --- working ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise what stops the present task, if anything does."""
        self._check()

    def advance(self, what: str, done: int, total: int, **figures: float) -> None:
        """The progress of stages: a step is where work may stop."""
        self._check()
        self._progress(what, done, total, **figures)

    def do(self, trial: Trial, check: Check) -> Outcome:
        """Do the task of a trial."""
        self._check = check
        try:
            check()
            if trial.task.kind is Kind.TEACHER:
                return self._teach()
            assert trial.task.candidate is not None
            if trial.task.kind is Kind.BUILD:
                return self._build(trial.task.candidate)
            return self._train(trial.task.candidate, trial.task.rung)
        finally:
            self._check = _nothing

    def _teach(self) -> Outcome:
        assert self.trials is not None
        start = time.perf_counter()
        self._choose_teaching()
        figures = self.trials.prepare(self.terms.entrants[0].candidate)
        facts = {
            "figures": None if figures is None else to_json(figures),
            "unit": self._unit(),
            "ended": self._now(),
        }
        value, top1 = (0.0, 0.0) if figures is None else (ranked(figures), figures.top1)
        return Outcome(value, top1, time.perf_counter() - start, facts=facts)

    @property
    def teaching(self) -> Teaching | None:
        """How the teacher is asked, once that is chosen; None where there is nothing to choose."""
        kept = self.ledger.fact(TEACHING)
        return None if kept is None else msgspec.convert(kept, Teaching)

    def _choose_teaching(self) -> None:
        """Choose how the teacher is asked, unless a worker that was killed has done so."""
        if self.teaching is not None:
            return
        assert self.trials is not None
        from edgekd.training import answer_time  # torch

        job, left = self.trials.job_of(self.terms.entrants[0].candidate), self.left(Kind.BUILD)

        def view_seconds(px: int) -> float:
            wanted = job.recipe.teacher.precision
            model = job.teachers[0].spec
            return answer_time.seconds_per_view(model, px, wanted, job.hardware)

        made = shared_teacher.affordable(
            job.recipe, self.terms.teacher_sides, self.terms.images, left, view_seconds
        )
        if made is not None:
            self.ledger.set_fact(TEACHING, msgspec.to_builtins(made))
            self.announce_teaching(made, left)

    def _unit(self) -> float:
        """Seconds of an epoch for each multiply-accumulate of an image, from some real steps.

        A network of middling size among the first to come is measured.
        """
        assert self.trials is not None
        from edgekd.training import step_time  # torch

        first = sorted(self.terms.entrants[: planning.WANTED], key=lambda each: each.macs)
        middle = first[len(first) // 2]
        job = self.trials.job_of(middle.candidate)
        image = step_time.seconds_per_image(job.student, job.recipe)
        return image * self.terms.images / (middle.macs + planning.BESIDE)

    def _train(self, candidate: Candidate, number: int) -> Outcome:
        assert self.trials is not None
        assert self.plan is not None
        score = self.trials.run(candidate, self.rungs[number])
        prunes = number >= len(self.plan.epochs)
        return Outcome(
            score.value,
            score.figures.top1,
            score.seconds if prunes else score.training_seconds,
            0 if prunes else score.trained,
            facts=msgspec.to_builtins(score),
        )

    def _build(self, candidate: Candidate) -> Outcome:
        start = time.perf_counter()
        made = self.build(candidate)
        return Outcome(
            made.auc or made.top1 or 0.0,
            made.top1 or 0.0,
            time.perf_counter() - start,
            good=finalist.good(made),
            facts=to_json(made),
        )

    @property
    def rungs(self) -> list[rung.Rung]:
        """The rungs of the plan, the last of which prunes."""
        assert self.plan is not None
        return rung.rungs(self.plan.epochs, pruned=True)


def ranked(figures: Figures) -> float:
    """The figure that ranks candidates, higher is better."""
    return figures.top1 if figures.auc is None else figures.auc


def _nothing() -> None:
    """Check nothing."""
