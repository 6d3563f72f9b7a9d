"""What lies in an out folder, read back: report.json with results carried back from a device, and the finished stages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgekd.core.errors import StoreError
from edgekd.core.store import Store, read_json
from edgekd.evaluation import waterfall
from edgekd.pipeline.jobs import Done

Body = dict[str, Any]

OWN = "local.json"  # the build's own run: report.json holds it already, or a newer one


def read_report(folder: Path) -> Body:
    """report.json, with every result under bench/ that is of the same file. Raises ModelFileError."""
    return with_results(folder, read_json(folder / "report.json", "edgekd.report/1"))


def with_results(folder: Path, body: Mapping[str, Any]) -> Body:
    """A report with the results that lie under the folder's bench/ and are of its file, and the verdict they lead to."""
    known = [run for run in body.get("bench") or [] if isinstance(run, Mapping)]
    digest = (body.get("artifact") or {}).get("sha256")
    for path in sorted((folder / "bench").glob("*.json")):
        run = _run(path) if path.name != OWN else {}
        if (
            run.get("schema") == "edgekd.bench/1"
            and run.get("model_sha256") == digest
            and run not in known
        ):
            known.append(run)
    found = dict(body)
    if known:
        found["bench"] = known
        if "accuracy" in body:
            found["accuracy"] = waterfall.carried_back(
                body["accuracy"], known, str(body.get("profile"))
            )
    return found


def _run(path: Path) -> Body:
    try:
        run = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}  # a file that somebody put there; only runs of this model are ours to judge
    return run if isinstance(run, dict) else {}


def finished(
    folder: Path, body: Mapping[str, Any], store: Store, needed: Iterable[str]
) -> dict[str, Done]:
    """The stages that report.json names, from the store. Raises StoreError when one that is needed is not there."""
    done: dict[str, Done] = {}
    for row in body.get("stages") or []:
        entry = store.find(str(row["stage"]), str(row["key"]))
        if entry is not None:
            done[entry.stage] = Done(entry, True)
    for stage in needed:
        if stage not in done:
            raise StoreError(
                f"{folder}: the stage {stage} of this build is not in {store.entries}",
                "name the store it was built with, --store DIR, or finish the build",
            )
    return done
