"""What a tracker gets of a build: its settings, the figures of its report, and its pages."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.core.records import present
from edgekd.settings import recipe

if TYPE_CHECKING:
    from edgekd.app.tracking.tracked import TrackedRun
    from edgekd.pipeline.jobs import Job
    from edgekd.reporting.report_record import Report

# Files of the out folder, where they are: the report for people and for programs, and the model
# card.
FILES = ("report.html", "report.json", "bundle/README.md")


def settings(job: Job) -> dict[str, str]:
    """Every setting of a build's recipe by its dotted key, and the profile's name."""
    tables = tomllib.loads(recipe.to_toml(job.recipe))
    return {"profile": job.profile.name, **dict(_flat(tables, ""))}


def _flat(table: Mapping[str, Any], before: str) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", str(value)


def give(run: TrackedRun, out: Path, report: Report) -> None:
    """Give a finished build to a run."""
    run.final(figures(report))
    for name in FILES:
        if (out / name).is_file():
            run.file(out / name)


def figures(report: Report) -> dict[str, float]:
    """The figures of a report: accuracy by stage, size, latency, memory, gates, and what a plan for
    a time has chosen.
    """
    found: dict[str, float | None] = {}
    accuracy = present(report.accuracy)
    for row in accuracy.waterfall if accuracy else ():
        found[f"test/{row.stage}/top1"], found[f"test/{row.stage}/auc"] = row.top1, row.auc
    if artifact := present(report.artifact):
        found["size/bytes"] = artifact.bytes
    if device := present(report.device):
        found["latency/predicted_ms"] = device.predicted.latency_ms
        found["latency/predicted_low_ms"] = device.predicted.low_ms
        found["latency/predicted_high_ms"] = device.predicted.high_ms
        found["memory/arena_bytes"] = device.memory.arena_bytes
    for bench in present(report.bench) or ():
        place = f"{bench.transport}/{bench.profile}"
        found[f"latency/measured_ms/{place}"] = None if bench.emulated else bench.latency_ms.p50
    if certificate := present(report.certificate):
        found["certificate/passed"] = certificate.passed
    # The settings were given to the run before the plan was made.
    if plan := present(report.plan):
        numbers = {key: each for key, each in plan.settings.items() if not isinstance(each, str)}
        found |= {f"plan/{key}": each for key, each in numbers.items()}
    found["gates/failed"] = len(present(report.gates) or ())
    found["gates/undecided"] = len(present(report.undecided) or ())
    return {name: float(value) for name, value in found.items() if value is not None}
