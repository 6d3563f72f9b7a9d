"""What a plan for a time rests on: how much a build has to do, and how fast this machine is."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Set

from edgekd.core.artifacts import Dataset
from edgekd.core.store import Store
from edgekd.pipeline import runner, time_plan
from edgekd.pipeline.build_costs import Speeds, TeacherChoice, Work, teacher_choice
from edgekd.pipeline.jobs import TEACHER_ZOOM, Done, Job, Teacher, load, teacher_px
from edgekd.pipeline.stage_settings import TeacherSettings
from edgekd.pipeline.stage_table import stages
from edgekd.settings.recipe import changed

# Training steps that a finished network of the user's is expected to take for an answer. It is not
# measured before it runs; the plan is corrected when it does.
GIVEN = 3.0


def work(job: Job, done: Mapping[str, Done], store: Store) -> Work:
    """How much a build has to do. `done`: its stages so far, among them "data"."""
    from edgekd.data import datasets  # numpy

    images: Dataset = load(done, "data")
    found = sides(job)
    kept = dict(_kept(job, done, store, found))
    return Work(
        images=len(datasets.taught(images)),
        labelled=len(datasets.rows(images, "train")),
        judged=len(datasets.rows(images, "val")),
        tested=len(datasets.rows(images, "test")),
        formats=len(job.formats),
        sides=found,
        kept=frozenset(kept),
        pretrained=frozenset(choice for choice, whole in kept.items() if whole),
    )


def sides(job: Job) -> tuple[int, ...]:
    """The sides that the first teacher's input may have, the largest first; () without a teacher.

    They are the one that a build chooses by itself, and where that is larger than the student's,
    one of about the student's size. Only one teacher of timm leaves a choice.
    """
    if not job.teachers:
        return ()
    first, config, px = job.teachers[0], job.recipe.teacher, job.recipe.data.input_px
    if first.given:
        return (config.px,)
    usual = teacher_px(first.spec, px, config)
    if config.px or config.as_it_is or len(job.teachers) > 1 or usual <= px:
        return (usual,)
    smaller = teacher_px(first.spec, round(px / TEACHER_ZOOM), config)
    return (usual, smaller) if smaller < usual else (usual,)


def speeds(job: Job, found: tuple[int, ...]) -> Speeds:
    """Measure how fast this machine is. `found`: the sides of the teacher's input."""
    from edgekd.training import step_time  # torch

    image = step_time.seconds_per_image(job.student, job.recipe, job.hardware)
    views = {
        side: sum(_view_seconds(job, teacher, side, image) for teacher in job.teachers)
        for side in found
    }
    return Speeds(image, views)


def _view_seconds(job: Job, teacher: Teacher, side: int, image: float) -> float:
    """Seconds of a teacher's answer about one view. `side`: of the first teacher's input."""
    if teacher.given:
        return GIVEN * image
    from edgekd.training import answer_time  # torch

    config = job.recipe.teacher
    if teacher is not job.teachers[0]:
        side = teacher_px(teacher.spec, job.recipe.data.input_px, config)
    return answer_time.seconds_per_view(teacher.spec, side, config.precision, job.hardware)


def _kept(
    job: Job, done: Mapping[str, Done], store: Store, found: tuple[int, ...]
) -> Iterator[tuple[TeacherChoice, bool]]:
    """The choices of a teacher that a plan has and whose results the store holds, and whether it
    holds the student that has learned the teacher's features, too.
    """
    for rule, side in itertools.product(time_plan.rules(job.recipe, bool(found)), found):
        based = time_plan.under(job.recipe, rule.preset)
        if len(found) > 1:
            based = changed(based, {"teacher.px": 0 if side == found[0] else side})
        made = dataclasses.replace(job, recipe=based)
        stage = next(stage for stage in stages(made) if stage.name == "teacher")
        asked = None if stage.settings is None else stage.settings(made)
        for views in time_plan.counts(based, "views.per_image", 1):
            if isinstance(asked, TeacherSettings) and based.teacher.mode == "frozen":
                view = dataclasses.replace(asked.view, per_image=views)
                asked = dataclasses.replace(asked, view=view)
            if store.find("teacher", runner.key(stage, asked, made, done)) is None:
                continue
            seen = changed(based, {"views.per_image": views})
            there = _there(dataclasses.replace(job, recipe=seen), done, store)
            if "knowledge" in there or seen.distil.answers != "cached":
                yield teacher_choice(seen, Work(0, 0, 0, 0, sides=found)), "pretrain" in there


def _there(job: Job, done: Mapping[str, Done], store: Store) -> Set[str]:
    """The stages before "distil" whose results the store holds, as far as all before them."""
    known = dict(done)
    for stage in stages(job):
        if stage.name == "distil":
            break
        if stage.name not in known:
            settings = None if stage.settings is None else stage.settings(job)
            entry = store.find(stage.name, runner.key(stage, settings, job, known))
            if entry is None:
                break
            known[stage.name] = Done(entry, cached=True)
    return known.keys()
