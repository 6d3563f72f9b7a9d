"""The stages that can make a build's knowledge: teachers, logged answers, or clients."""

from __future__ import annotations

import dataclasses

from edgekd.core import artifacts
from edgekd.core.errors import RecipeError
from edgekd.pipeline import teacher_stages
from edgekd.pipeline.jobs import Job, file_digest, weights_content
from edgekd.pipeline.stage import Stage
from edgekd.pipeline.stage_settings import ClientSettings, LogSettings


def _logs(job: Job) -> LogSettings:
    config = job.recipe.distil
    return LogSettings(config.logs, config.logs_max_days, file_digest(config.logs, "distil.logs"))


def _clients(job: Job) -> ClientSettings:
    config = job.recipe.distil  # without pretraining, which needs another teacher
    return ClientSettings(
        config=job.recipe.federated,
        distil=config,
        model=job.student,
        view=teacher_stages.seen(job.recipe.views),
        px=job.recipe.data.input_px,
        channels=job.recipe.data.channels,
        weights_content=weights_content(job.student, config.weights, "distil.weights"),
    )


# Clients' answers or logged answers take the place of a teacher's.
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


def of_job(job: Job, from_teachers: Stage) -> list[Stage]:
    """The stage that makes knowledge, or [] where the student has none or asks in training.

    `from_teachers`: the stage that asks teachers. Raises RecipeError for further teachers together
    with a teacher that is asked during training.
    """
    config = job.recipe.distil
    if config.logs:
        return [LOGS]
    if job.recipe.federated.on:
        return [CLIENTS]
    further = [teacher.stage for teacher in job.teachers[1:]]
    if config.answers != "cached":
        if further:
            raise RecipeError(
                f"teacher.others needs cached answers, and distil.answers is {config.answers!r}",
                'set distil.answers="cached", or leave teacher.others out',
            )
        return []
    if job.teacher is None:
        return []
    return [dataclasses.replace(from_teachers, parents=(*from_teachers.parents, *further))]
