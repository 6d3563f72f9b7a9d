"""`edgekd report --why`: analyses which operators of a finished build lose accuracy in int8.

The analysis is kept in the build's store, and written into its report.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgekd.core import artifacts
from edgekd.core.artifacts import Sensitivity
from edgekd.core.context import Context, Progress
from edgekd.core.errors import ModelFileError
from edgekd.core.files import is_file
from edgekd.core.records import from_json, to_json
from edgekd.core.store import Store, facts_json
from edgekd.pipeline.jobs import Done, load
from edgekd.pipeline.stage_keys import source_digest
from edgekd.pipeline.stage_settings import SensitivitySettings
from edgekd.quantization.sensitivity_record import SensitivityReport
from edgekd.reporting.out_folder import finished, read_report
from edgekd.reporting.report_record import Report
from edgekd.settings import recipe
from edgekd.settings.recipe import QatConfig

STAGE = "why"
VERSION = 2  # of the analysis; an analysis of another version is made again
PARENTS = ("data", "inputs", "distil", "qat")


def float_stage(done: Mapping[str, Done]) -> str:
    """The stage that made the float network before QAT: "prune" if it is there, else "distil"."""
    return "prune" if "prune" in done else "distil"


def key(done: Mapping[str, Done], config: QatConfig, seed: int) -> str:
    """The key under which the store keeps the analysis of a build."""
    parents = {name: done[name].entry.digest for name in (*PARENTS, float_stage(done))}
    settings = {
        "lr": config.lr,
        "temperature": config.temperature,
        "epochs": config.epochs,
        "pin": config.pin,
    }
    code = source_digest("pipeline.stages.sensitivity")
    return artifacts.stage_key(STAGE, VERSION, settings, parents, seed, code)


def known(
    store: Store, done: Mapping[str, Done], config: QatConfig, seed: int
) -> SensitivityReport | None:
    """The analysis of a build that the store holds, or None."""
    if any(name not in done for name in PARENTS):
        return None
    entry = store.find(STAGE, key(done, config, seed))
    if entry is None:
        return None
    return from_json(SensitivityReport, entry.load(Sensitivity).body, STAGE)


def explain(folder: Path, shared: Path | None, progress: Progress) -> Report:
    """Analyse the build in `folder`, and write the answer into report.json and report.html.

    An analysis that the store holds already is not made again. Raises ModelFileError when the
    folder holds no report, and StoreError when the store lacks a stage of the build.
    """
    from edgekd.app.publish import shown_examples
    from edgekd.reporting.html_report import page

    report = read_report(folder)
    file = folder / "recipe.toml"
    if not is_file(file):
        raise ModelFileError(f"{file} does not exist", "name the out folder of an `edgekd build`")
    config = recipe.load(file).qat
    store = Store(folder, shared)
    with store.lock():
        done = finished(folder, report, store, PARENTS)
        found = known(store, done, config, report.seed)
        if found is None:
            found = _analyse(store, done, config, report.seed, progress)
        report = msgspec.structs.replace(report, why=found)
        store.publish("report.json", facts_json(to_json(report)))
        store.publish("report.html", page(report, shown_examples(done)).encode())
    return report


def _analyse(
    store: Store, done: Mapping[str, Done], config: QatConfig, seed: int, progress: Progress
) -> SensitivityReport:
    """Make the analysis, and keep it in the store."""
    from edgekd.pipeline.stages import sensitivity as stage

    wanted, start = key(done, config, seed), time.perf_counter()
    made = stage.run(
        *(load(done, name) for name in ("data", "inputs", float_stage(done), "qat")),
        settings=SensitivitySettings(config),
        context=Context(seed, progress=progress, checkpoint=store.checkpoint(STAGE, wanted)),
    )
    seconds = time.perf_counter() - start
    body = {**made.body, "seconds": round(seconds, 1)}
    store.put(STAGE, wanted, Sensitivity(body), seconds)
    return from_json(SensitivityReport, body, STAGE)
