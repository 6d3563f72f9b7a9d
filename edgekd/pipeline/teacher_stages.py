"""The stages of a build's teachers: a network of timm, or a finished network of the user's."""

from __future__ import annotations

import dataclasses
import functools

from edgekd.pipeline.jobs import Job, native_sizes, pretrained, teacher_px, weights_content
from edgekd.pipeline.stage import Stage
from edgekd.pipeline.stage_settings import (
    GivenTeacherSettings,
    KnowledgeSettings,
    TeacherSettings,
    TransformerTuning,
)
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import TeacherConfig, ViewsConfig
from edgekd.training.oracle_settings import OracleSettings


def each(usual: Stage, job: Job) -> list[Stage]:
    """A stage for each teacher. `usual`: the stage of a network of timm."""
    return [_stage(usual, job, number) for number in range(len(job.teachers))]


def _stage(usual: Stage, job: Job, number: int) -> Stage:
    """The stage of a teacher, by its place in `job.teachers`."""
    teacher = job.teachers[number]
    row = dataclasses.replace(usual, name=teacher.stage)
    if not teacher.given:
        return dataclasses.replace(row, settings=functools.partial(settings, number=number))
    return dataclasses.replace(
        row,
        function="edgekd.pipeline.stages.given_teacher:run",
        settings=functools.partial(_given, number=number),
    )


def seen(view: ViewsConfig) -> ViewsConfig:
    """The views as a teacher sees them: resized by Pillow, whatever the student trains on."""
    return dataclasses.replace(view, resizers=ViewsConfig.resizers)


def settings(job: Job, number: int = 0) -> TeacherSettings:
    """Settings of a network of timm, by its place in `job.teachers`. All share those of the
    first.
    """
    teacher = job.teachers[number]
    # What may be done with the answers, and what is done with them, does not change the teacher.
    config = dataclasses.replace(
        job.recipe.teacher,
        others=(),
        name=teacher.name,
        weights=teacher.weights,
        terms="",
        average_views=TeacherConfig.average_views,
        self_training=_rounds(job),
    )
    px = teacher_px(teacher.spec, job.recipe.data.input_px, config)
    content = weights_content(teacher.spec, config.weights, teacher.key)
    view = seen(job.recipe.views)
    if config.mode != "frozen":
        # A new view every epoch: how many the student sees does not matter.
        view = dataclasses.replace(view, per_image=1)
    tuning = _tuning(config) if _fine_tunes_a_transformer(config, teacher.spec) else None
    return TeacherSettings(_read(config, tuning), teacher.spec, view, px, content, tuning)


def _rounds(job: Job) -> int:
    """How often a teacher's head trains itself: never without images that have no label."""
    config = job.recipe.teacher
    return config.self_training if config.mode == "frozen" and job.recipe.data.unlabelled else 0


def _fine_tunes_a_transformer(config: TeacherConfig, model: ModelSpec) -> bool:
    """Whether a teacher is a pretrained transformer, that is a network of patches, to be tuned."""
    if config.mode != "finetune" or config.as_it_is or not pretrained(model, config.weights):
        return False
    return native_sizes(model)[1] > 1


def _tuning(config: TeacherConfig) -> TransformerTuning:
    return TransformerTuning(config.layer_decay, config.drop_path, config.head_first)


def _read(config: TeacherConfig, tuning: TransformerTuning | None) -> TeacherConfig:
    """The settings that the stage reads. Others have their defaults, so that they change no key."""
    found = dataclasses.replace(
        config,
        layer_decay=TeacherConfig.layer_decay,
        drop_path=TeacherConfig.drop_path,
        head_first=TeacherConfig.head_first,
    )
    if config.optimiser == "auto":
        found = dataclasses.replace(found, optimiser="adamw" if tuning else "sgd")
    fits_a_head = config.mode == "frozen" or (tuning is not None and tuning.head_first)
    if not fits_a_head:
        found = dataclasses.replace(found, head_features=TeacherConfig.head_features)
    return found


def asked(job: Job, oracle: OracleSettings) -> KnowledgeSettings:
    """Settings of the stage that asks the teachers. `oracle`: how the first one is asked."""
    view = seen(job.recipe.views)
    return KnowledgeSettings(view, oracle, job.recipe.teacher.average_views or view.per_image)


def _given(job: Job, number: int) -> GivenTeacherSettings:
    """Settings of a finished network of the user's, by its place in `job.teachers`."""
    from edgekd.quantization import given_teacher  # torch, which other jobs are planned without

    table = job.recipe.teacher
    config = job.teachers[number].as_config(table)
    digest = given_teacher.digest(config)
    return GivenTeacherSettings(config, digest, table.batch, table.precision)
