"""Decides first weights that the recipe leaves open, and finds those that are missing or do not
fit, before any stage runs.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgekd.core.errors import EdgeKDError, RecipeError, WeightsError
from edgekd.data import dataset_builder
from edgekd.data.sources import UNLABELLED
from edgekd.networks import first_weights
from edgekd.pipeline.jobs import Job
from edgekd.reporting import worth_of_weights
from edgekd.settings import model_specs, recipe
from edgekd.settings.recipe import DistilConfig, Recipe
from edgekd.settings.setting_types import Toml


def found(job: Job) -> Job:
    """The job with the first weights of every network decided, and their origins.

    Raises WeightsError where "hub" was asked for and the weights cannot be had.
    """
    if job.given:
        return job
    own = _of_student(job.recipe.distil)
    origins, values = {"student": own}, {"distil.weights": own.weights}
    named: list[str] = []
    for teacher in job.teachers:
        weights = teacher.weights
        if not teacher.given:
            first = first_weights.of(teacher.spec, weights, teacher.key)
            origins[teacher.stage], weights = first, first.weights
        named.append(weights)
    changes: dict[str, Toml] = {**values}
    if named:
        changes["teacher.weights"] = named[0]
        changes["teacher.others"] = tuple(
            f"{teacher.name}@{weights}" if weights else teacher.name
            for teacher, weights in zip(job.teachers[1:], named[1:], strict=True)
        )
    return dataclasses.replace(job, recipe=recipe.changed(job.recipe, changes), origins=origins)


def for_student(job: Job, settings: Recipe) -> Job:
    """The job with other settings, whose student may start from other weights."""
    origins = {**job.origins, "student": _of_student(settings.distil)}
    return dataclasses.replace(job, recipe=settings, origins=origins)


def _of_student(distil: DistilConfig) -> first_weights.FirstWeights:
    spec, changed = model_specs.spec(distil.student), bool(distil.options)
    return first_weights.of(spec, distil.weights, "distil.weights", changed=changed)


def notes(job: Job) -> list[str]:
    """The origin of each network's first weights, and what trained ones would be worth to the
    student, a line each.
    """
    told = notes_of_teachers(job)
    if (own := job.origins.get("student")) is not None:
        student = job.recipe.distil.student
        worth = worth_of_weights.line(student, own, _images(job))
        told = [_origin("student", student, own), *told, *([worth] if worth else [])]
    return told


def notes_of_teachers(job: Job) -> list[str]:
    """The origin of each teacher's first weights, a line each."""
    origins = ((teacher, job.origins.get(teacher.stage)) for teacher in job.teachers)
    return [_origin(teacher.stage, teacher.name, first) for teacher, first in origins if first]


def _origin(role: str, name: str, first: first_weights.FirstWeights) -> str:
    return f"first weights of the {role}, {name}: {first.line}"


def _images(job: Job) -> int:
    """About how many labelled training images there will be, as far as that is known now."""
    labelled = [item for item in job.source.items() if item.split != UNLABELLED]
    return dataset_builder.training_images(labelled, job.recipe.data, job.recipe.seed)


def check(job: Job, classes: int) -> None:
    """Check the classifier of teachers that are used as they are.

    `classes`: of the data. Raises WeightsError. torch is loaded only where there is such a network.
    """
    for teacher in job.teachers if job.recipe.teacher.as_it_is else []:
        if teacher.given:
            continue
        if not job.origins[teacher.stage].trained:
            raise WeightsError(
                f"{teacher.name} has random weights, so it cannot teach as it is "
                "(teacher.epochs = 0)",
                f"give its weights, {teacher.name}@FILE.safetensors, or train it: "
                "--set teacher.epochs=8",
            )
        from edgekd.networks import timm_networks

        timm_networks.check_outputs(teacher.spec, teacher.weights, classes)


def check_same(job: Job, out: Path) -> str:
    """Compare with the last build in the folder `out`. Returns a note, "" for nothing to say.

    Raises RecipeError where that build had the hub's weights of this student, and this one would
    start from random ones because they cannot be had any more.
    """
    own, path = job.origins.get("student"), out / "recipe.toml"
    if own is None or not path.is_file():
        return ""
    try:
        last = recipe.load(path, (), {}).distil
    except EdgeKDError:
        return ""  # of another version; the stages' keys tell its results apart
    if last.student != job.recipe.distil.student:
        return ""
    name = last.student
    if last.weights == model_specs.HUB and own.fell_back:
        raise RecipeError(
            f"the last build in {out} started from the hub's weights of {name}, and they cannot "
            f"be had any more ({own.origin})",
            "connect this machine, or --set distil.weights=none trains from random weights",
        )
    if own.weights == model_specs.HUB and last.weights in ("", first_weights.RANDOM):
        return (
            f"the last build in {out} started from random weights of {name}; "
            "--set distil.weights=none does so again"
        )
    return ""
