"""A build as data: Job says what to build, Done is a finished stage, load gives its artifact."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.assessment.check_record import LatencyCut, LowRankBlock
from edgekd.core.context import Hardware
from edgekd.core.errors import WeightsError
from edgekd.core.files import reason
from edgekd.core.number_formats import NumberFormat
from edgekd.core.store import Entry
from edgekd.data.sources import UNLABELLED, Source
from edgekd.export import format_packages
from edgekd.networks import input_size
from edgekd.networks.first_weights import FirstWeights
from edgekd.networks.foreign.forms import is_foreign, short_name, split_weights
from edgekd.pipeline.stage_keys import version
from edgekd.settings import model_specs
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import ConvertConfig, Recipe, TeacherConfig, ViewsConfig, changed

# A pretrained teacher sees images of 1.5 times the student's side: a ViT's cost grows with the
# square of the side.
TEACHER_ZOOM = 1.5


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A teacher of a build.

    `stage`: the stage that trains it, "teacher", "teacher2" and so on. `name`: the network's, or
    what names a finished network of the user's. `weights`: as in `teacher.weights` of a recipe.
    """

    stage: str
    name: str
    weights: str

    @property
    def key(self) -> str:
        """The key of a recipe that names its weights."""
        return "teacher.weights" if self.stage == "teacher" else "teacher.others"

    @property
    def given(self) -> bool:
        """Whether it is a finished network of the user's, in another form than NAME@WEIGHTS."""
        return is_foreign(self.name)

    @property
    def spec(self) -> ModelSpec:
        """The network's spec, from its model file where it has one."""
        if self.given:
            return given_spec(self.name)
        return model_specs.spec(self.name)

    def as_config(self, settings: TeacherConfig) -> ConvertConfig:
        """What loads a teacher of the user's."""
        return ConvertConfig(
            model=f"{self.name}@{self.weights}" if self.weights else self.name,
            px=settings.px,
            mean=settings.mean,
            std=settings.std,
            order=settings.order,
            layout=settings.layout,
            trust=settings.trust,
        )


def given_spec(model: str) -> ModelSpec:
    """The spec of a finished network of the user's, which says no more than its name."""
    name = short_name(model)
    return ModelSpec(name, name, name, model_specs.ROLES, source="the user's own network")


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything that decides a build: recipe, device profile, and the open data source.

    `origins`: where the first weights of "student", "teacher", "teacher2" and so on come from, as
    they were found before the build. The recipe then names them.
    `labelled`: False where no image has a label. Such a job ends with the stage "pretrain".
    """

    recipe: Recipe
    profile: DeviceProfile
    source: Source
    origins: Mapping[str, FirstWeights] = dataclasses.field(default_factory=dict)
    labelled: bool = True

    @property
    def given(self) -> bool:
        """Whether a finished network of the user's takes the place of a student to train."""
        return bool(self.recipe.convert.model)

    @property
    def hardware(self) -> Hardware:
        """What the build's networks run on."""
        run = self.recipe.run
        return Hardware(run.device, run.precision, run.cuda_graphs)

    @property
    def frame(self) -> tuple[int, ...]:
        """[height, width] of what the file takes where it resizes images itself, else ()."""
        return self.recipe.ports.sides(self.recipe.data.input_px)

    @property
    def frame_of_views(self) -> tuple[int, ...]:
        """The same for views, where they have several resizers. Pillow's hardly depend on it."""
        return () if self.recipe.views.resizers == ViewsConfig.resizers else self.frame

    @property
    def formats(self) -> tuple[NumberFormat, ...]:
        """The number formats that the build makes, int8 first."""
        return format_packages.wanted(self.recipe.convert, self.profile)

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """Every teacher in order, the first of which is called "teacher".

        Empty for a student that learns from labels alone, from logged answers, or from clients'
        answers.
        """
        config = self.recipe.teacher
        if config.name == "none" or self.recipe.distil.logs or self.recipe.federated.on:
            return ()
        if self.given:
            return ()
        further = [split_weights(other) for other in config.others]
        return (
            Teacher("teacher", config.name, config.weights),
            *(
                Teacher(f"teacher{number}", name, weights)
                for number, (name, weights) in enumerate(further, 2)
            ),
        )

    @property
    def teacher(self) -> ModelSpec | None:
        """The first teacher's spec, or None for a student without a teacher."""
        return self.teachers[0].spec if self.teachers else None

    @property
    def student(self) -> ModelSpec:
        """The student's spec, with the edits that the profile asks for.

        With `data.channels = "auto"` the number of input channels is decided later, by the images.
        """
        distil = self.recipe.distil
        spec = model_specs.spec(distil.student).with_options(distil.options)
        if not self.given:  # a network that is given has no builder that takes a size
            spec = input_size.sized(spec, self.recipe.data.input_px)
        if self.recipe.data.channels == "1":
            spec = model_specs.of_channels(spec, 1)
        return spec.edited(self.profile.edits)

    @property
    def classes(self) -> int:
        """How many classes the source has."""
        if self.source.labels is not None:
            return len(self.source.labels)
        return len({item.label for item in self.source.items() if item.split != UNLABELLED})

    @functools.cached_property
    def latency_cut(self) -> LatencyCut | None:
        """The cut that keeps `prune.target_latency`, or None where there is no such target.

        Raises what `edgekd.assessment.latency_cut.planned` raises.
        """
        if not self.recipe.prune.target_latency or self.given or not self.labelled:
            return None
        from edgekd.assessment import latency_cut  # numpy, for such builds alone

        return latency_cut.planned(self.student, self.recipe, self.profile, self.classes)

    @functools.cached_property
    def low_rank(self) -> LowRankBlock | None:
        """The pairs that `prune.low_rank` makes, or None where it is 0, or where trained weights
        decide the widths.

        Raises what `edgekd.assessment.low_rank_check.block` raises.
        """
        config = self.recipe.prune
        if not config.low_rank or self.given or not self.labelled:
            return None
        if config.cuts and config.scope != "local":
            return None
        from edgekd.assessment import low_rank_check  # numpy, for such builds alone

        cut, settings = self.latency_cut, self.recipe
        if cut is not None:
            goals = {"prune.target_latency": "", "prune.ratio": cut.ratio}
            settings = changed(settings, goals)
        return low_rank_check.block(settings, self.student, self.profile, self.classes)


@dataclasses.dataclass(frozen=True)
class Done:
    """A finished stage: its entry in the store, and whether the entry was there before this run."""

    entry: Entry
    cached: bool


def load(done: Mapping[str, Done], name: str) -> Any:
    """The artifact of a finished stage, or None when the job has no such stage or it has not run.

    The type is that of the stage's row in the table (`Stage.produces`).
    """
    return done[name].entry.artifact() if name in done else None


def file_digest(path: str, key: str) -> str:
    """Hex sha256 of a file that a recipe names; "" for "", "none" and "hub", which name no file.

    Raises WeightsError, naming the recipe's key, when the file cannot be read.
    """
    if path in ("", "none", "hub"):
        return ""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"{key} {path}: {reason(error)}",
            "name a file that exists; a network's weights are given as NAME@FILE",
        ) from None


def weights_content(model: ModelSpec, weights: str, key: str = "weights") -> str:
    """What stands for the contents of a network's first weights in a stage's key.

    `weights`, as in a recipe: the sha256 of a file, of the hub's file for "hub"; where it is "",
    the version of the model's package, if it has one. `key`: the recipe's, for messages. Raises
    WeightsError.
    """
    if weights == model_specs.HUB:
        from edgekd.networks import hub_weights, timm_networks  # torch, for such builds alone

        return hub_weights.digest(timm_networks.hub_file(model))
    if weights or not model.package:
        return file_digest(weights, key)
    return f"{model.package} {version(model.package.replace('_', '-'))}"


def pretrained(model: ModelSpec, weights: str) -> bool:
    """Whether a network has trained weights. `weights`: as in a recipe."""
    return weights != "none" and bool(weights or model.package)


def native_sizes(model: ModelSpec) -> tuple[int, int]:
    """The sides of a network's input, and of its patches, in pixels; a CNN's patch side is 1."""
    if model.px and model.patch:
        return model.px, model.patch
    from edgekd.networks import timm_networks  # torch: only for a network without a model file

    return timm_networks.facts(model.arch)


def teacher_px(model: ModelSpec, student_px: int, config: TeacherConfig) -> int:
    """The side of a teacher's input in pixels.

    Where `teacher.px` is 0, a network that is trained from random weights takes the student's size.
    A pretrained one takes TEACHER_ZOOM times that size, rounded to a multiple of its patch, and at
    most the size that its weights were made for. A finished classifier takes that size itself.
    """
    if config.px:
        return config.px
    native, patch = native_sizes(model)
    if config.as_it_is:
        return native
    if not pretrained(model, config.weights):
        return student_px
    return min(native // patch, max(1, round(TEACHER_ZOOM * student_px / patch))) * patch
