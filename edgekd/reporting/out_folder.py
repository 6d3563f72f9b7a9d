"""Read an out folder back: report.json with the results of devices, and the finished stages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edgekd.core.errors import ModelFileError, StoreError
from edgekd.core.records import UNSET, from_json, present
from edgekd.core.store import Store, read_json
from edgekd.device import bench_record
from edgekd.device.bench_record import Bench
from edgekd.pipeline.jobs import Done
from edgekd.reporting.device_answers import carried_back
from edgekd.reporting.report_record import SCHEMA, Report

HEAD = f'"schema": "{SCHEMA}"'.encode()  # how report.json begins, after its brace
OWN = "local.json"  # the build's own run, which report.json already holds


def read_report(folder: Path) -> Report:
    """The report of an out folder, with every result under bench/ that is of the same file.

    Raises ModelFileError when report.json is missing or is not a report.
    """
    path = folder / "report.json"
    return with_results(folder, _report(path))


def _report(path: Path) -> Report:
    """The report in a file.

    It is decoded straight into records, without plain JSON in between: a report names every image
    whose answer changed, so that it can have megabytes, and a table of builds reads hundreds.
    """
    try:
        data = path.read_bytes()
        if HEAD in data[: 2 * len(HEAD)]:
            return msgspec.json.decode(data, type=Report)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        pass  # what is wrong is said below
    return from_json(Report, read_json(path, SCHEMA), str(path))


def with_results(folder: Path, report: Report) -> Report:
    """The report with the results under the folder's bench/ that are of its file.

    They count in the accuracy's verdict.
    """
    known = list(present(report.bench) or [])
    artifact = present(report.artifact)
    if artifact is not None:
        for path in sorted((folder / "bench").glob("*.json")):
            run = _run(path) if path.name != OWN else None
            if run is not None and run.model_sha256 == artifact.sha256 and run not in known:
                known.append(run)
    if not known:
        return report
    accuracy = present(report.accuracy)
    return msgspec.structs.replace(
        report,
        bench=known,
        accuracy=UNSET if accuracy is None else carried_back(accuracy, known, report.profile),
    )


def _run(path: Path) -> Bench | None:
    """A bench result, or None for another file that somebody put there."""
    try:
        run = from_json(Bench, json.loads(path.read_bytes()), str(path))
    except (OSError, ValueError, RecursionError, ModelFileError):
        return None
    return run if run.schema == bench_record.SCHEMA else None


def finished(folder: Path, report: Report, store: Store, needed: Iterable[str]) -> dict[str, Done]:
    """The stages that the report names, from the store.

    Raises StoreError when one of the `needed` stages is not there.
    """
    done: dict[str, Done] = {}
    for row in report.stages:
        entry = store.find(row.stage, row.key)
        if entry is not None:
            done[entry.stage] = Done(entry, True)
    for stage in needed:
        if stage not in done:
            raise StoreError(
                f"{folder}: the stage {stage} of this build is not in {store.entries}",
                "name the build's store with --store DIR, or finish the build",
            )
    return done
