"""Settings that contradict each other."""

from __future__ import annotations

import re

from edgekd.core.errors import RecipeError
from edgekd.settings.compression_settings import PruneConfig
from edgekd.settings.image_settings import DataConfig
from edgekd.settings.recipe_tables import Recipe


def check_together(recipe: Recipe, where: str) -> None:
    """Raise RecipeError for settings that contradict each other."""
    _check_cut(recipe.prune, where)
    if recipe.distil.labels == "withheld" and recipe.qat.alpha < 1:
        raise RecipeError(
            f"{where}: qat.alpha is {recipe.qat.alpha}, so that QAT would see the labels that "
            "distil.labels withholds",
            "leave qat.alpha at 1, or --set distil.labels=given",
        )
    if recipe.distil.balance == "group" and not recipe.distil.groups:
        raise RecipeError(
            f'{where}: distil.balance = "group" needs the group of each image',
            "name a CSV of image,group in distil.groups",
        )
    if recipe.federated.on and recipe.data.cache == "none":
        raise RecipeError(
            f'{where}: data.cache is "none", but [federated] gives each client its images decoded',
            "leave data.cache out",
        )
    if recipe.convert.model and recipe.prune.on:
        raise RecipeError(
            f"{where}: [prune] is set, but {recipe.convert.model} is a finished network, which no "
            "stage fine-tunes after a cut",
            "leave the settings of [prune] out, or train a student: edgekd build --student NAME",
        )
    _check_average(recipe, where)
    recipe.ports.check(recipe.data.input_px, recipe.convert, where)
    _check_labels(recipe.data, where)


# The settings that say how much pruning takes.
GOALS = ("ratio", "target_macs", "target_latency")


def _check_cut(prune: PruneConfig, where: str) -> None:
    """Raise RecipeError for settings of [prune] that contradict each other."""
    goals = [f"prune.{name}" for name in GOALS if getattr(prune, name)]
    if len(goals) > 1:
        raise RecipeError(
            f"{where}: {' and '.join(goals)} are set, and each decides how much is cut",
            "leave out all but one",
        )
    if prune.target_latency and prune.scope != "local":
        raise RecipeError(
            f'{where}: prune.target_latency needs prune.scope = "local": with '
            f'"{prune.scope}" the trained weights decide how much each group loses, so that no '
            "latency can be predicted before training",
            "--set prune.scope=local, or set prune.target_macs instead",
        )


def _check_average(recipe: Recipe, where: str) -> None:
    """Raise RecipeError where a teacher's answers about several views cannot be averaged."""
    asked, views = recipe.teacher.average_views, recipe.views
    if asked == 1 or recipe.teacher.name == "none" or recipe.distil.logs or recipe.federated.on:
        return
    if asked > views.per_image:
        raise RecipeError(
            f"{where}: teacher.average_views is {asked}, but each image has "
            f"{views.per_image} views (views.per_image)",
            f"--set teacher.average_views=0 averages over all of them, or "
            f"--set views.per_image={asked}",
        )
    if views.mixup:
        raise RecipeError(
            f"{where}: teacher.average_views is {asked}, but with views.mixup each view of an "
            "image shows another mixture, and their answers have no common mean",
            "--set teacher.average_views=1 or --set views.mixup=0",
        )
    if recipe.distil.answers != "cached":
        raise RecipeError(
            f"{where}: teacher.average_views is {asked}, which needs cached answers, and "
            f"distil.answers is {recipe.distil.answers!r}",
            "--set distil.answers=cached or --set teacher.average_views=1",
        )


def _check_labels(data: DataConfig, where: str) -> None:
    """Raise RecipeError for settings of groups and of uncertain labels that make no sense."""
    if data.group_pattern and data.group_column not in ("auto", "patient_key"):
        raise RecipeError(
            f"{where}: data.group_pattern and data.group_column are both set, and each names the "
            "groups",
            "leave one of them out",
        )
    try:
        re.compile(data.group_pattern)
    except re.error as error:
        raise RecipeError(
            f"{where}: data.group_pattern is {data.group_pattern!r}, which is no regular "
            f"expression ({error})",
            r"write one such as --set 'data.group_pattern=patient\d+'",
        ) from None
    if data.uncertain.startswith("soft:"):
        low, high = data.uncertain.removeprefix("soft:").split("-")
        if float(low) > float(high):
            raise RecipeError(
                f"{where}: data.uncertain is {data.uncertain!r}, but {low} is more than {high}",
                f"--set data.uncertain=soft:{high}-{low}",
            )
