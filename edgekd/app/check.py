"""`edgekd check`: from the arguments to what a device makes of a model."""

from __future__ import annotations

from edgekd.app.arguments import Check
from edgekd.app.results import CheckResult
from edgekd.app.settings import listed, recipe_of
from edgekd.assessment import student_check
from edgekd.assessment.check_record import DeviceCheck
from edgekd.assessment.checked_file import refuse_folder, refuse_settings, tflite_of
from edgekd.core.errors import RecipeError, UnknownName
from edgekd.core.records import present
from edgekd.networks.foreign.forms import is_foreign
from edgekd.settings.device_profiles import load_profile
from edgekd.settings.recipe import Recipe
from edgekd.settings.setting_types import Toml


def run(asked: Check) -> CheckResult:
    """Check what the arguments name. Raises EdgeKDError for what cannot be checked."""
    return judged(answer(asked))


def judged(check: DeviceCheck) -> CheckResult:
    """The result of a check, with what to do when it failed."""
    next_step = present(check.next_step) or ""
    return CheckResult(check, failed=tuple(check.failures), next_step=next_step)


def answer(asked: Check) -> DeviceCheck:
    """What the device makes of the model that the arguments name."""
    profile = load_profile(asked.profile)
    model = asked.model
    if isinstance(model, Recipe):
        return student_check.check_recipe(recipe_of(model, asked.settings, {}), profile)
    name = str(model)
    if is_foreign(name):
        from edgekd.app import given_job  # torch

        values: dict[str, Toml] = {"convert.model": name, **_of_model(asked)}
        return given_job.check(recipe_of(None, asked.settings, values), profile)
    if _of_model(asked):
        raise RecipeError(
            f"--px, --layout, --outputs and --trust describe a network of your own; {name} is none",
            "leave them out; --set data.input_px=224 sets the size of a student's input",
        )
    file = tflite_of(name)
    if file is not None:
        refuse_settings(file, asked.settings)
        return student_check.check_file(file, profile)
    is_recipe = name.endswith(".toml")
    settings = recipe_of(
        name if is_recipe else None,
        asked.settings,
        {} if is_recipe else {"distil.student": name},
    )
    try:
        return student_check.check_recipe(settings, profile)
    except UnknownName:
        refuse_folder(name)
        raise


def _of_model(asked: Check) -> dict[str, Toml]:
    """What the arguments say of a network of the user's own, by the recipe's keys."""
    found: dict[str, Toml] = {}
    if asked.px is not None:
        found["convert.px"] = asked.px
    if asked.layout is not None:
        found["convert.layout"] = asked.layout
    if asked.outputs is not None:
        found["convert.outputs"] = [*listed(asked.outputs)]
    if asked.trust:
        found["convert.trust"] = True
    return found
