"""What a build refuses before its first stage: all that the recipe, the tables and the files that
it names, and the network decide.

Without these checks a stage would raise the same errors, after hours of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekd.app import medical_figures
from edgekd.assessment import layer_prices
from edgekd.core.context import Hardware
from edgekd.core.errors import DataError, RecipeError, UnknownName
from edgekd.data import answer_logs, tables
from edgekd.data.sources import UNLABELLED
from edgekd.export import format_packages
from edgekd.pipeline.jobs import Job
from edgekd.pipeline.stage import Stage
from edgekd.pipeline.stage_settings import (
    ClientSettings,
    DistilSettings,
    PruneSettings,
    TeacherSettings,
)
from edgekd.pipeline.stage_table import stages
from edgekd.settings import model_specs, range_pins
from edgekd.settings.model_specs import ModelSpec
from edgekd.settings.recipe import Recipe, RunConfig

# Stages whose settings take time to gather, and name no file that is not checked elsewhere.
NO_FILES = ("data", "bench")


def check_job(job: Job) -> None:
    """Check what needs no network: settings that contradict each other, columns, and tables.

    Raises RecipeError, UnknownName or DataError that names the key or the file.
    """
    stages(job)
    format_packages.check(job.formats, job.profile)
    _check_modes(job)
    range_pins.parse(job.recipe.qat.pin)
    if job.recipe.prune.low_rank:
        layer_prices.of(job.profile)
    if job.recipe.subgroups.column:
        subgroup_values(job)
    medical_figures.check_columns(job)
    for teacher in job.teachers:
        if not teacher.given:
            model_specs.check_frozen(job.recipe.teacher.mode, teacher.weights, teacher.spec)
    _check_tables(job)


def check_device(run: RunConfig) -> None:
    """Raise RecipeError for a device that this machine does not have."""
    if run.device not in ("auto", "cpu"):
        from edgekd.networks import compute  # torch, which these devices need anyway

        compute.chosen(Hardware(run.device, run.precision))


def subgroup_values(job: Job) -> Mapping[str, str]:
    """{image: its value of the column `subgroups.column`}.

    Raises RecipeError when the source has no table, or no such column in it.
    """
    name = job.recipe.subgroups.column
    read = getattr(job.source, "column", None)
    if read is None:
        raise RecipeError(
            f"subgroups.column is {name!r}, but {job.source.name} has no manifest.csv",
            "name a folder with a manifest.csv as --data, or --set subgroups.column=",
        )
    try:
        values: Mapping[str, str] = read(name)
    except (DataError, UnknownName) as error:
        raise RecipeError(f"subgroups.column is {name!r}: {error.what}", error.next_step) from error
    return values


def _check_modes(job: Job) -> None:
    """Raise RecipeError for settings of [distil] that exclude each other."""
    config = job.recipe.distil
    taught = bool(job.teachers or config.logs or job.recipe.federated.on)
    if config.labels == "withheld" and not taught:
        raise RecipeError(
            'distil.labels = "withheld" needs a teacher whose answers stand in for the labels',
            "name a teacher, or a log in distil.logs",
        )
    corrected = config.answers == "corrected" and bool(job.teachers)
    if config.labels == "withheld" and corrected:
        raise RecipeError(
            'distil.answers = "corrected" compares with labels that distil.labels withholds',
            'use distil.answers = "cached" or "live"',
        )
    if job.recipe.views.mixup and (config.logs or corrected):
        what = "a log" if config.logs else 'distil.answers = "corrected"'
        raise RecipeError(
            f"views.mixup shows mixed images, but {what} has answers about unmixed ones only",
            "set views.mixup=0",
        )
    for term in config.losses:
        if term.name == "fair" and not config.groups:
            raise RecipeError(
                "distil.losses.fair needs each image's group",
                "name a CSV of image,group in distil.groups",
            )
        lacking = sorted(set(term.method.needs) - {"logits"})
        if lacking and (config.logs or corrected):
            raise RecipeError(
                f"distil.losses.{term.name} needs the teacher's {' and '.join(lacking)}, which its "
                "answers do not hold",
                "leave it out, or train from the teacher itself",
            )


def _check_tables(job: Job) -> None:
    """Read the CSVs that the recipe names beside the images. Raises DataError or UnknownName."""
    config, items = job.recipe.distil, job.source.items()
    if config.groups:
        path = Path(config.groups)
        named = [item.name for item in items] if _all_images_stay(job.recipe) else []
        tables.groups(path, named)
    if job.recipe.federated.parts:
        tables.groups(Path(job.recipe.federated.parts), [])
    if config.logs:
        splits = {item.name: item.split for item in items if item.split != UNLABELLED}
        classes = job.source.labels or sorted({item.label for item in items})
        answer_logs.check(Path(config.logs), splits, classes)


def _all_images_stay(settings: Recipe) -> bool:
    """Whether every image of the source is in the data set, or the build stops there."""
    config = settings.data
    return config.on_error == "refuse" and config.duplicates == "refuse" and not config.limit


def check_files(job: Job, waiting: Sequence[Stage]) -> None:
    """Check, once a stage has to run, what the stages that wait need: files, weights, and cuts.

    `waiting`: the first stage that the store does not hold, and those behind it. Raises
    WeightsError for a file that is missing or of another network, GateFailed for a pruning target
    that cannot be reached, and UnsupportedNetwork for a network that cannot be pruned.
    """
    for stage in waiting:
        if stage.settings is None or stage.name in NO_FILES:
            continue
        settings = stage.settings(job)  # reads every file that the stage's key rests on
        match settings:
            case TeacherSettings():
                _check_weights(settings.model, settings.config.weights, settings.px)
            case DistilSettings() | ClientSettings():
                weights = job.recipe.distil.weights
                _check_weights(settings.model, weights, settings.px)
            case PruneSettings():
                from edgekd.networks import pruning_check

                pruning_check.check(
                    settings.model,
                    settings.config,
                    settings.multiple,
                    job.recipe.data.input_px,
                    job.classes,
                )


def _check_weights(model: ModelSpec, weights: str, px: int) -> None:
    """Raise WeightsError when a file of weights, or the hub's, is not of this network."""
    if weights not in ("", "none"):
        from edgekd.networks import timm_networks

        timm_networks.check_weights(model, weights, px)
