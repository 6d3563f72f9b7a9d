"""What a tracker gets of a search: a run with the front's best, and a part for each candidate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgekd.core.records import present
from edgekd.search.record import TrialState

if TYPE_CHECKING:
    from edgekd.app.tracking.tracked import TrackedRun
    from edgekd.search.record import CandidateRow, FinalistRow, Request, Search, TrialRow

FILES = ("search.html", "search.json")


def settings(request: Request) -> dict[str, str]:
    """What was asked, by name; each limit has a name of its own."""
    asked = msgspec.to_builtins(request, str_keys=True)
    limits = asked.pop("limits")
    named = {**asked, **{f"limits.{name}": value for name, value in limits.items()}}
    return {name: str(value) for name, value in named.items() if value is not None}


def give(run: TrackedRun, out: Path, made: Search) -> None:
    """Give a search that has ended, or was interrupted, to a run."""
    run.final(
        {
            "candidates/considered": made.considered,
            "candidates/dropped": made.dropped.candidates,
            "candidates/trained": len({trial.candidate for trial in made.trials}),
            "finalists": len(made.finalists),
            "seconds": made.seconds,
        }
    )
    for name in FILES:
        if (out / name).is_file():
            run.file(out / name)
    finalists = {row.candidate: row for row in made.finalists}
    for candidate in made.candidates:
        trials = [trial for trial in made.trials if trial.candidate == candidate.name]
        finalist = finalists.get(candidate.name)
        if trials or finalist:
            _part(run, candidate, trials, finalist, made)


def _part(
    run: TrackedRun,
    candidate: CandidateRow,
    trials: list[TrialRow],
    finalist: FinalistRow | None,
    made: Search,
) -> None:
    """One candidate: its scores over the epochs of all rungs, and its whole build."""
    part = run.part(candidate.name, _of_candidate(candidate))
    for trial in trials:
        for point in present(trial.curve) or ():
            part.point(f"val/{made.score}", point.score, point.epoch)
        if trial.score is not None:
            part.final({f"rung/{trial.rung}/{made.score}": trial.score})
    part.final({"seconds": sum(trial.seconds for trial in trials)})
    if finalist is not None:
        part.final(dict(_of_build(finalist, made)))
    part.finish(failed=any(trial.state is TrialState.FAILED for trial in trials))


def _of_candidate(candidate: CandidateRow) -> dict[str, str]:
    edits = {f"edits.{name}": value for name, value in candidate.edits.items()}
    return {
        "student": candidate.student,
        "weights": candidate.weights,
        "input_px": str(candidate.input_px),
        "pruned": str(candidate.pruned),
        "format": candidate.number_format,
        **edits,
    }


def _of_build(row: FinalistRow, made: Search) -> Iterator[tuple[str, float]]:
    """The figures of a whole build."""
    latency = row.latency(made.request.profile)
    figures = {
        "test/top1": row.top1,
        "test/auc": row.auc,
        "test/drop_points": row.drop_points,
        "size/bytes": row.size_bytes,
        "memory/bytes": row.memory_bytes,
        "latency/ms": latency.latency_ms if latency else None,
        "certificate/passed": row.certified,
        "gates/failed": len(row.gates),
        "limits/missed": len(row.misses),
    }
    for name, value in figures.items():
        if value is not None:
            yield name, float(value)
