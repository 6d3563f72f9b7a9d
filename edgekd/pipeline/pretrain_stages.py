"""The stage that teaches a student the teacher's features before it sees a label: distil.pretrain.

Its key holds nothing that a label decides, so that builds share its result: of the data, the images
alone; of a teacher that was not trained here, the weights that it came with.
"""

from __future__ import annotations

import dataclasses

from edgekd.core import artifacts
from edgekd.core.errors import RecipeError
from edgekd.data import image_sets
from edgekd.pipeline.jobs import Job, teacher_px, weights_content
from edgekd.pipeline.pretrain_settings import (
    BackboneSettings,
    PretrainSettings,
    UnlabelledSettings,
)
from edgekd.pipeline.stage import Stage
from edgekd.settings.recipe import DistilConfig
from edgekd.training.oracle_settings import OracleSettings

STRIDE = 32  # input pixels for each cell of a student's last feature map, per side


def wanted(job: Job) -> bool:
    """Whether the recipe asks for the stage. Raises RecipeError where no teacher has features."""
    config = job.recipe.distil
    if config.pretrain == "none" or job.given:
        return False
    told = 'distil.pretrain = "features" needs the features of a teacher'
    instead = "or --set distil.pretrain=none"
    if config.logs or job.recipe.federated.on:
        instead_of = "distil.logs" if config.logs else "[federated]"
        raise RecipeError(
            f"{told}, and {instead_of} gives answers alone", f"leave {instead_of} out, {instead}"
        )
    if job.teacher is None:
        raise RecipeError(told, f"name one: --teacher NAME@FILE, {instead}")
    if job.teachers[0].given:
        raise RecipeError(
            f"{told}, and {job.teachers[0].name} gives answers alone",
            f"name a teacher of timm, --teacher NAME@FILE, {instead}",
        )
    return True


def without_pretraining(config: DistilConfig) -> DistilConfig:
    """The settings that the stages behind it read: its result is their parent."""
    return dataclasses.replace(
        config,
        pretrain=DistilConfig.pretrain,
        pretrain_epochs=DistilConfig.pretrain_epochs,
        pretrain_lr=DistilConfig.pretrain_lr,
        pretrain_grid=DistilConfig.pretrain_grid,
    )


def map_side(job: Job) -> int:
    """The side of the student's last feature map, which the teacher's maps are asked for in."""
    return -(-job.recipe.data.input_px // STRIDE)


def maps(job: Job) -> bool:
    """Whether the student learns the teacher's patch features in advance."""
    config = job.recipe.distil
    return config.pretrain != "none" and config.pretrain_grid > 0


def _settings(job: Job) -> PretrainSettings:
    config, table = job.recipe.distil, job.recipe.teacher
    assert job.teacher is not None
    return PretrainSettings(
        epochs=config.pretrain_epochs,
        lr=config.pretrain_lr,
        grid=config.pretrain_grid,
        batch=config.batch,
        optimiser=config.optimiser,
        weight_decay=config.weight_decay,
        warmup=config.warmup,
        schedule=config.schedule,
        ema=config.ema,
        seed=config.seed,
        weights=config.weights,
        model=job.student,
        view=job.recipe.views,
        px=job.recipe.data.input_px,
        channels=job.recipe.data.channels,
        oracle=OracleSettings(table.precision, job.teacher, map_side(job) if maps(job) else 0),
        backbone=_backbone(job) if _untrained(job) else None,
        weights_content=weights_content(job.student, config.weights, "distil.weights"),
        frame=job.frame_of_views,
    )


def _untrained(job: Job) -> bool:
    """Whether the teacher's features are asked of the weights that it came with.

    Of a finished classifier the stage "knowledge" keeps all answers together, which spares asking
    it twice, where there is such a stage.
    """
    config = job.recipe.teacher
    return config.mode == "frozen" or (config.as_it_is and not job.labelled)


def _backbone(job: Job) -> BackboneSettings:
    teacher = job.teachers[0]
    return BackboneSettings(
        teacher.spec,
        teacher.weights,
        job.recipe.teacher.head_features,
        teacher_px(teacher.spec, job.recipe.data.input_px, job.recipe.teacher),
        weights_content(teacher.spec, teacher.weights, teacher.key),
    )


def _unlabelled(job: Job) -> UnlabelledSettings:
    # What only the stage "inputs" reads is set to one value, as for the stage "data".
    config = dataclasses.replace(
        job.recipe.data, input_px=32, calibration=8, golden=1, channels="3"
    )
    return UnlabelledSettings(config, job.source.fingerprint())


PRETRAIN = Stage(
    "pretrain",
    1,
    "edgekd.pipeline.stages.pretrain:run",
    artifacts.Network,
    ("data", "teacher"),
    _settings,
    wanted=wanted,
    shared=True,
    counts={"data": image_sets.digest},
)
# In the place of the stage "data", where no image has a label.
UNLABELLED = Stage(
    "data", 1, "edgekd.pipeline.stages.read:unlabelled", artifacts.Dataset, (), _unlabelled
)


def of_job(job: Job) -> Stage:
    """The stage of a job that wants it. A teacher that was not trained here is no parent."""
    if _untrained(job):
        return dataclasses.replace(PRETRAIN, parents=("data",))
    return PRETRAIN


def without_labels(job: Job) -> tuple[Stage, ...]:
    """The stages of a job without labels: it ends with a student that knows features.

    Raises RecipeError for a teacher that has no features, or that has to be trained on labels.
    """
    assert wanted(job), "such a job is made for this stage alone"
    if not _untrained(job):
        name = job.teachers[0].name
        raise RecipeError(
            f"{name} would be trained on labels, and {job.source.name} has none",
            "take its features as they are: --teacher NAME@FILE --teacher-frozen",
        )
    return UNLABELLED, of_job(job)
