"""What a search says while it runs, and why it ends without a network."""

from __future__ import annotations

import math

import msgspec

from edgekd.app import quantities
from edgekd.reporting.text import plural
from edgekd.search import shared_teacher
from edgekd.search.ledger import Kind, State, Trial
from edgekd.search.plan import Plan
from edgekd.search.record import FinalistRow, LimitName, Miss, Search, SearchState
from edgekd.search.shared_teacher import Teaching


def planned(plan: Plan, left: float) -> str:
    """The plan in one sentence. `left`: seconds until the search has to be done."""
    steps = [*zip(plan.counts, plan.epochs, strict=True)]
    first = f"{plural(steps[0][0], 'candidate')} for {steps[0][1]}"
    counts = ", ".join([first, *(f"the best {count} for {end}" for count, end in steps[1:])])
    return (
        f"plan for {quantities.spoken(left)}: train {counts} epochs (about "
        f"{quantities.spoken(plan.seconds)}), then build the best whole (about "
        f"{quantities.spoken(plan.reserve)}); corrected as times are measured"
    )


def taught(teaching: Teaching, left: float) -> str:
    """How the teacher is asked, in one sentence. `left`: seconds that the search still has."""
    told = (
        f"the teacher sees {plural(teaching.views, 'view')} of each image at {teaching.px} px "
        f"(about {quantities.spoken(teaching.seconds)})"
    )
    if teaching.seconds > shared_teacher.SHARE * left:
        return f"{told}, which is much of the time; a longer --budget leaves more for candidates"
    return f"{told}; more would take too much of the time" if teaching.cut else told


def came(trial: Trial) -> str:
    """What came of a trial, in a few words."""
    if trial.outcome is None:
        told = "failed" if trial.state is State.FAILED else "stopped"
        return f"{told}: {trial.why.partition(chr(10))[0]}"
    took = quantities.spoken(trial.outcome.seconds)
    if trial.task.kind is Kind.TEACHER:
        return f"ready ({took})"
    if trial.task.kind is Kind.BUILD:
        row = msgspec.convert(trial.outcome.facts, FinalistRow)
        faults = [*row.gates, *(miss.text for miss in row.misses)]
        return f"{'; '.join(faults) or 'keeps every limit and gate'} ({took})"
    figures = trial.outcome.facts["figures"]
    auc = figures["auc"]
    score = f"AUC {auc:.3f}" if auc is not None else f"top-1 {figures['top1']:.1%}"
    return f"{score} on validation ({took})"


def what_would_fit(made: Search) -> str:
    """What to type where no candidate can keep the limits: those that the nearest one can keep."""
    others = "--space tries other students or sizes"
    if not made.dropped.nearest:
        return others
    flags = [flag for miss in made.dropped.nearest[0].misses if (flag := _allowing(miss))]
    return f"{' '.join(flags)} would let in the nearest; {others}" if flags else others


def _allowing(miss: Miss) -> str:
    """The argument that allows what a candidate misses, "" where none does."""
    if miss.found is None:
        return ""
    if miss.limit is LimitName.LATENCY:
        step = 10 ** (math.floor(math.log10(miss.found)) - 2)  # three digits, rounded up
        return f"--max-latency {math.ceil(miss.found / step) * step:.3g}ms"
    if miss.limit is LimitName.SIZE:
        return f"--max-size {math.ceil(miss.found / 1000)}kB"
    if miss.limit is LimitName.MEMORY:
        return f"--max-memory {math.ceil(miss.found / 1000)}kB"
    return ""


def why_nothing(
    made: Search, trials: tuple[Trial, ...], plan: Plan | None
) -> tuple[tuple[str, ...], str, SearchState]:
    """Why there is no recommended network, what to do, and how the search ended."""
    if plan is None:
        return (
            ("the images and the teacher took the whole time",),
            "give a longer --budget: the same command goes on. --teacher-frozen is quicker",
            SearchState.INTERRUPTED,
        )
    if made.finalists:
        faults = [
            f"{row.candidate}: {'; '.join([*row.gates, *(miss.text for miss in row.misses)])}"
            for row in made.finalists
        ]
        return (
            ("no network that was built keeps every limit and gate", *faults),
            "allow more, or give a longer --budget: the same command goes on",
            SearchState.NOTHING_KEPT,
        )
    failed = [each for each in trials if each.state is State.FAILED]
    if failed and not any(each.outcome for each in trials if each.task.kind is Kind.RUNG):
        return (
            (f"every candidate failed; {failed[0].task}: {failed[0].why}",),
            "look at the reasons in search.json",
            SearchState.NOTHING_KEPT,
        )
    return (
        ("the time was up before a whole build was done",),
        "give a longer --budget: the same command goes on",
        SearchState.INTERRUPTED,
    )
