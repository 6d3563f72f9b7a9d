"""What a build is (Job) and what it has made so far (Done), with the artifact of each finished stage (load)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.core.errors import WeightsError
from edgekd.core.store import Entry
from edgekd.settings import model_specs
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A teacher of a build.

    `stage`: the stage that trains it, "teacher", "teacher2" and so on. `name`: the network's. `weights`: as in
    `teacher.weights` of a recipe.
    """

    stage: str
    name: str
    weights: str

    @property
    def spec(self) -> ModelSpec:
        """The network's spec, from its model file where it has one."""
        return model_specs.spec(self.name)


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything that decides a build: the recipe, the device it is for, the open data source."""

    recipe: Recipe
    profile: DeviceProfile
    source: Any  # sources.Source

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """Every teacher in order, the first of which is called "teacher".

        Empty for a student that learns from labels alone, from logged answers, or from clients' answers.
        """
        config = self.recipe.teacher
        if config.name == "none" or self.recipe.distil.logs or self.recipe.federated.on:
            return ()
        further = [other.partition("@") for other in config.others]
        return (
            Teacher("teacher", config.name, config.weights),
            *(
                Teacher(f"teacher{number}", name, weights)
                for number, (name, _, weights) in enumerate(further, 2)
            ),
        )

    @property
    def teacher(self) -> ModelSpec | None:
        """The first teacher's spec, or None for a student without a teacher."""
        return self.teachers[0].spec if self.teachers else None

    @property
    def student(self) -> ModelSpec:
        """The student's spec, with its edits; data.channels = "auto" is settled by the images."""
        spec = model_specs.spec(self.recipe.distil.student)
        if self.recipe.data.channels == "1":
            spec = model_specs.of_channels(spec, 1)
        return spec.edited(self.profile.edits)


@dataclasses.dataclass(frozen=True)
class Done:
    """A stage of this run: its entry, and whether the store held it already."""

    entry: Entry
    cached: bool


def load(done: Mapping[str, Done], name: str) -> Any:
    """The artifact of a finished stage, or None when this job has no such stage."""
    return done[name].entry.artifact() if name in done else None


def file_digest(path: str) -> str:
    """Hex sha256 of a file that a recipe names, or "" where it names none. Raises WeightsError when it cannot be read."""
    if path in ("", "none", "hub"):
        return ""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"file {path}: {error.strerror}", "name a file that exists; weights are NAME@FILE"
        ) from None


# A pretrained teacher sees images of 1.5 times the student's side: a ViT's cost grows with the square of the side.
TEACHER_ZOOM = 1.5


def teacher_px(model: ModelSpec, student_px: int, weights: str) -> int:
    """The input size of a teacher when `teacher.px` is 0, in pixels.

    A network that is trained from nothing takes the student's size. A pretrained one takes TEACHER_ZOOM times that size,
    rounded to a multiple of its patch, and at most the size that its weights were made for.
    """
    native, patch = model.px, model.patch
    if not native or not patch:
        from edgekd.networks import builders  # torch: only for a network without a file in models/

        native, patch = builders.facts(model.arch)
    if weights == "none" or (not weights and not model.package):
        return student_px
    return min(native // patch, max(1, round(TEACHER_ZOOM * student_px / patch))) * patch
