"""The stages of a build, one row each: what runs it, what it makes, what it is given, and which settings decide it.

A stage is named by where it lies ("module:function"), so that planning a build imports neither torch nor a converter.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from edgekd.core import artifacts
from edgekd.core.errors import RecipeError
from edgekd.device import edgebench
from edgekd.pipeline.jobs import Job, file_digest, teacher_px
from edgekd.settings import loss_catalogue

Settings = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One row of the table. `settings(job)` is passed to `function` by keyword, and hashed: nothing else is used.

    Parents may be absent (no teacher, no pruning); the function then gets None. `wanted(job)`: whether the recipe asks for it.
    """

    name: str
    version: int
    function: str
    produces: type
    parents: tuple[str, ...]
    settings: Callable[[Job], Settings]
    needs_teacher: bool = False
    wanted: Callable[[Job], bool] = lambda _job: True
    shared: bool = False  # by all processes of a launcher; any other stage is the main one's


def _data(job: Job) -> Settings:
    # what is the inputs' concern is the same for all
    config = dataclasses.replace(
        job.recipe.data, input_px=32, calibration=8, golden=1, channels="3"
    )
    settings = {"config": config, "fingerprint": job.source.fingerprint()}
    if job.recipe.federated.on:
        divided = dataclasses.replace(
            job.recipe.federated, rounds=1, epochs=1
        )  # those are the clients' concern
        settings |= {"federated": divided, "parts_sha256": file_digest(divided.parts)}
    return settings


def _inputs(job: Job) -> Settings:
    config = job.recipe.data
    return {
        "px": config.input_px,
        "fit": config.fit,
        "calibration": config.calibration,
        "golden": config.golden,
        "channels": config.channels,
    }


def _teacher(job: Job, number: int = 0) -> Settings:
    """Settings of a teacher by its place in `job.teachers`. Further teachers share those of the first."""
    teacher = job.teachers[number]
    config = dataclasses.replace(
        job.recipe.teacher, others=(), name=teacher.name, weights=teacher.weights
    )
    px = config.px or teacher_px(teacher.spec, job.recipe.data.input_px, config.weights)
    return {
        "config": config,
        "model": teacher.spec,
        "view": job.recipe.views,
        "px": px,
        "weights_sha256": file_digest(config.weights),
    }


def _asking(job: Job) -> Settings:
    """How the teacher is asked, and which maps its losses want: at the student's own grid, whose stride is 32."""
    side, needs = -(-job.recipe.data.input_px // 32), loss_catalogue.needs(job.recipe.distil.losses)
    return {
        "wanted_precision": job.recipe.teacher.precision,
        "model": job.teacher,
        "grid_side": side if job.recipe.distil.grid or "grid" in needs else 0,
        "cam_side": side if "cams" in needs else 0,
    }


def _knowledge(job: Job) -> Settings:
    return {"view": job.recipe.views, **_asking(job)}


def _logs(job: Job) -> Settings:
    config = job.recipe.distil
    return {
        "path": config.logs,
        "file_sha256": file_digest(config.logs),
        "max_days": config.logs_max_days,
    }


def _clients(job: Job) -> Settings:
    config = job.recipe.distil
    return {
        "config": job.recipe.federated,
        "distil": config,
        "model": job.student,
        "view": job.recipe.views,
        "px": job.recipe.data.input_px,
        "weights_sha256": file_digest(config.weights),
        "channels": job.recipe.data.channels,
    }


def _distil(job: Job) -> Settings:
    config = job.recipe.distil
    return {
        "config": config,
        "model": job.student,
        "view": job.recipe.views,
        "px": job.recipe.data.input_px,
        "channels": job.recipe.data.channels,
        "weights_sha256": file_digest(config.weights),
        "groups_sha256": file_digest(config.groups),
        "asking": _live(job),
    }


def _live(job: Job) -> Settings | None:
    return (
        _asking(job) if job.teacher is not None and job.recipe.distil.answers != "cached" else None
    )


def _prune(job: Job) -> Settings:
    return {
        "config": job.recipe.prune,
        "distil": job.recipe.distil,
        "model": job.student,
        "view": job.recipe.views,
        "groups_sha256": file_digest(job.recipe.distil.groups),
        "multiple": job.recipe.prune.multiple or job.profile.channel_multiple,
        "asking": _live(job),
    }


def _prunes(job: Job) -> bool:
    return bool(job.recipe.prune.ratio or job.recipe.prune.target_macs)


def _qat(job: Job) -> Settings:
    config = job.recipe.distil
    balance = "none" if config.labels == "withheld" else config.balance
    groups = config.groups if balance == "group" else ""
    return {
        "config": job.recipe.qat,
        "rules": dict(job.profile.rules),
        "view": job.recipe.views,
        "balance": balance,
        "groups": groups,
        "groups_sha256": file_digest(groups),
    }


def _evaluate(job: Job) -> Settings:
    return {"wanted_precision": job.recipe.teacher.precision}


def _certify(job: Job) -> Settings:
    return {"config": job.recipe.certify}


def _confidence(job: Job) -> Settings:
    return {"config": job.recipe.confidence}


def _bench(job: Job) -> Settings:
    # a latency holds for the machine that it was measured on alone
    return {"config": job.recipe.bench, "host": edgebench.machine()}


def _nothing(_job: Job) -> Settings:
    return {}


STAGES: tuple[Stage, ...] = (
    Stage("data", 1, "edgekd.pipeline.stages.read:run", artifacts.Dataset, (), _data),
    Stage("inputs", 1, "edgekd.pipeline.stages.read:inputs", artifacts.Inputs, ("data",), _inputs),
    Stage(
        "teacher",
        1,
        "edgekd.pipeline.stages.teacher:run",
        artifacts.Network,
        ("data",),
        _teacher,
        needs_teacher=True,
        shared=True,
    ),
    Stage(
        "knowledge",
        2,
        "edgekd.pipeline.stages.knowledge:run",
        artifacts.Knowledge,
        ("data", "teacher"),
        _knowledge,
        needs_teacher=True,
        shared=True,
    ),
    Stage(
        "distil",
        2,
        "edgekd.pipeline.stages.distil:run",
        artifacts.Network,
        ("data", "knowledge", "teacher"),
        _distil,
        shared=True,
    ),
    Stage(
        "prune",
        2,
        "edgekd.pipeline.stages.prune:run",
        artifacts.Network,
        ("data", "knowledge", "teacher", "distil"),
        _prune,
        wanted=_prunes,
        shared=True,
    ),
    Stage(
        "qat",
        1,
        "edgekd.pipeline.stages.qat:run",
        artifacts.QuantNetwork,
        ("data", "inputs", "distil", "prune"),
        _qat,
        shared=True,
    ),
    Stage("export", 1, "edgekd.pipeline.stages.export:run", artifacts.Exported, ("qat",), _nothing),
    Stage(
        "convert",
        1,
        "edgekd.pipeline.stages.convert:run",
        artifacts.LiteModel,
        ("export",),
        _nothing,
    ),
    Stage(
        "evaluate",
        1,
        "edgekd.pipeline.stages.evaluate:run",
        artifacts.Evaluation,
        ("data", "inputs", "teacher", "distil", "prune", "qat", "export", "convert"),
        _evaluate,
    ),
    Stage(
        "certify",
        2,
        "edgekd.pipeline.stages.certify:run",
        artifacts.Certificate,
        ("data", "inputs", "qat", "export", "convert", "evaluate"),
        _certify,
    ),
    Stage(
        "confidence",
        2,
        "edgekd.pipeline.stages.confidence:run",
        artifacts.Confidence,
        ("data", "inputs", "distil", "convert", "evaluate"),
        _confidence,
    ),
    Stage(
        "saliency",
        1,
        "edgekd.pipeline.stages.saliency:run",
        artifacts.Saliency,
        ("data", "inputs", "teacher", "distil", "convert", "evaluate"),
        _evaluate,
    ),
    Stage(
        "bench",
        1,
        "edgekd.pipeline.stages.measure:run",
        artifacts.Measurement,
        ("inputs", "distil", "convert", "evaluate"),
        _bench,
    ),
)


# Clients' answers, or logged ones, take the place of a teacher's.
CLIENTS = Stage(
    "knowledge", 1, "edgekd.pipeline.stages.federated:run", artifacts.Knowledge, ("data",), _clients
)
LOGS = Stage(
    "knowledge",
    1,
    "edgekd.pipeline.stages.knowledge:from_logs",
    artifacts.Knowledge,
    ("data",),
    _logs,
)


def stages(job: Job) -> tuple[Stage, ...]:
    """The rows that this job runs. Further teachers are rows of their own, teacher2 and so on, after the first."""
    config, rows = job.recipe.distil, []
    others = [teacher.stage for teacher in job.teachers[1:]]
    for stage in STAGES:
        if stage.name == "knowledge" and (config.logs or job.recipe.federated.on):
            rows.append(LOGS if config.logs else CLIENTS)
        elif not stage.wanted(job) or (stage.needs_teacher and job.teacher is None):
            continue
        elif stage.name == "knowledge" and config.answers != "cached":
            if others:
                raise RecipeError(
                    f"teacher.others needs cached answers, and distil.answers is {config.answers!r}",
                    'set distil.answers="cached", or leave teacher.others out',
                )
        elif stage.name == "knowledge":
            rows.append(dataclasses.replace(stage, parents=(*stage.parents, *others)))
        else:
            rows.append(stage)
        if rows and rows[-1].name == "teacher":
            rows += [
                dataclasses.replace(
                    stage, name=name, settings=functools.partial(_teacher, number=number)
                )
                for number, name in enumerate(others, 1)
            ]
    return tuple(rows)
