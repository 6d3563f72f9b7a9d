"""What `edgekd report --why` does: the sensitivity run of a finished build, cached in its store, written into its report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgekd.core import artifacts
from edgekd.core.artifacts import Sensitivity
from edgekd.core.context import Context, Progress
from edgekd.core.errors import ModelFileError
from edgekd.core.records import from_json, to_json
from edgekd.core.store import Store, facts_json
from edgekd.evaluation import sensitivity_record
from edgekd.pipeline.jobs import Done, load
from edgekd.pipeline.stage_keys import source_digest
from edgekd.pipeline.stage_settings import SensitivitySettings
from edgekd.reporting.out_folder import finished, read_report
from edgekd.reporting.report_record import Report
from edgekd.settings import recipe
from edgekd.settings.recipe import QatConfig

STAGE = "why"
VERSION = 2
PARENTS = ("data", "inputs", "distil", "qat")


def float_stage(done: Mapping[str, Done]) -> str:
    """The stage whose float network QAT started from: "prune" where the student was pruned, else "distil"."""
    return "prune" if "prune" in done else "distil"


def key(done: Mapping[str, Done], config: QatConfig, seed: int) -> str:
    """The key of a build's sensitivity run."""
    parents = {name: done[name].entry.digest for name in (*PARENTS, float_stage(done))}
    plain = {
        "lr": config.lr,
        "temperature": config.temperature,
        "epochs": config.epochs,
        "pin": config.pin,
    }
    return artifacts.stage_key(
        STAGE, VERSION, plain, parents, seed, source_digest("pipeline.stages.sensitivity")
    )


def known(
    store: Store, done: Mapping[str, Done], config: QatConfig, seed: int
) -> sensitivity_record.Sensitivity | None:
    """The sensitivity run of these very artifacts, where one was made."""
    if any(name not in done for name in PARENTS):
        return None
    entry = store.find(STAGE, key(done, config, seed))
    if entry is None:
        return None
    return from_json(sensitivity_record.Sensitivity, entry.load(Sensitivity).body, STAGE)


def explain(folder: Path, shared: Path | None, progress: Progress) -> Report:
    """Make the run, or take it from the store, and write it into report.json and report.html. Returns the report.

    Raises ModelFileError when the folder holds no report, StoreError when its stages are not in the store.
    """
    from edgekd.evaluation.examples import choose
    from edgekd.pipeline.stages import sensitivity as stage
    from edgekd.reporting.html_report import page

    report = read_report(folder)
    if not (folder / "recipe.toml").is_file():
        raise ModelFileError(
            f"{folder / 'recipe.toml'} does not exist", "name the out folder of an `edgekd build`"
        )
    config, seed = recipe.load(folder / "recipe.toml").qat, report.seed
    store = Store(folder, shared)
    with store.lock():
        done = finished(folder, report, store, PARENTS)
        found = known(store, done, config, seed)
        if found is None:
            wanted, start = key(done, config, seed), time.perf_counter()
            context = Context(seed, progress=progress, checkpoint=store.checkpoint(STAGE, wanted))
            made = stage.run(
                *(load(done, name) for name in ("data", "inputs", float_stage(done), "qat")),
                settings=SensitivitySettings(config),
                context=context,
            )
            seconds = time.perf_counter() - start
            body = {**made.body, "seconds": round(seconds, 1)}
            store.put(STAGE, wanted, Sensitivity(body), seconds)
            found = from_json(sensitivity_record.Sensitivity, body, STAGE)
        report = msgspec.structs.replace(report, why=found)
        shown = (
            choose(
                load(done, "data"),
                load(done, "inputs"),
                load(done, "evaluate"),
                saliency=load(done, "saliency"),
            )
            if "evaluate" in done
            else []
        )
        store.publish("report.json", facts_json(to_json(report)))
        store.publish("report.html", page(report, shown).encode())
    return report
