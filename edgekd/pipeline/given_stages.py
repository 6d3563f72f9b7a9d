"""The stages that bring a finished network of the user's to the device: `convert.model`."""

from __future__ import annotations

import dataclasses

from edgekd.core import artifacts
from edgekd.pipeline.jobs import Job
from edgekd.pipeline.stage import Stage
from edgekd.pipeline.stage_settings import AnsweredSettings, GivenSettings

REPLACED = ("data", "teacher", "knowledge", "pretrain", "distil")


def _given(job: Job) -> GivenSettings:
    from edgekd.quantization import given_network  # torch, which other jobs are planned without

    # Where the labels come from, and what else is made of it, do not change the network.
    config = dataclasses.replace(job.recipe.convert, labels="auto", formats=())
    return GivenSettings(config, given_network.foreign(config).digest)


def _answered(job: Job) -> AnsweredSettings:
    # What only the stage "inputs" reads is set to one value, as for the stage "data".
    config = dataclasses.replace(job.recipe.data, calibration=8, golden=1, channels="3")
    unread = 0 if job.recipe.qat.epochs else job.recipe.data.calibration
    return AnsweredSettings(config, job.source.fingerprint(), unread)


GIVEN = Stage("distil", 1, "edgekd.pipeline.stages.given:run", artifacts.Network, (), _given)
# Its labels are the network's answers, so the network comes first.
ANSWERED = Stage(
    "data",
    1,
    "edgekd.pipeline.stages.given:answered",
    artifacts.Dataset,
    ("distil",),
    _answered,
)


def of_given(job: Job, usual: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages of such a job. `usual`: those of a build."""
    own = job.recipe.convert.labels == "own"
    data = next(stage for stage in usual if stage.name == "data")
    rest = [stage for stage in usual if stage.name not in REPLACED]
    return (GIVEN, data if own else ANSWERED, *rest)
