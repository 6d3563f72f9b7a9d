"""`edgekd check`: from the arguments to what a device makes of a model."""

from __future__ import annotations

from typing import Any

import msgspec

from edgekd.app.arguments import Check
from edgekd.app.results import CheckResult
from edgekd.app.settings import listed, recipe_of
from edgekd.assessment import student_check
from edgekd.assessment.check_record import DeviceCheck
from edgekd.assessment.checked_file import refuse_folder, refuse_settings, tflite_of
from edgekd.core.errors import RecipeError, UnknownName
from edgekd.core.records import present
from edgekd.networks.foreign.forms import is_foreign
from edgekd.settings import recipe_toml
from edgekd.settings.device_profiles import DeviceProfile, load_profile
from edgekd.settings.recipe import SETTINGS, Recipe
from edgekd.settings.setting_types import Setting, Toml

EXAMPLES = {"--sizes": "64,96,128", "--widths": "0,0.25,0.5"}


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
        return _student(asked, recipe_of(model, asked.settings, {}), profile)
    name = str(model)
    if is_foreign(name):
        _refuse_others(asked, name)
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
        _refuse_others(asked, name)
        return student_check.check_file(file, profile)
    is_recipe = name.endswith(".toml")
    settings = recipe_of(
        name if is_recipe else None,
        asked.settings,
        {} if is_recipe else {"distil.student": name},
    )
    try:
        return _student(asked, settings, profile)
    except UnknownName:
        refuse_folder(name)
        raise


def _student(asked: Check, settings: Recipe, profile: DeviceProfile) -> DeviceCheck:
    """The check of a student, with what else was asked about it."""
    sizes = _numbers("--sizes", asked.sizes, SETTINGS["data.input_px"])
    shares = _numbers("--widths", asked.widths, SETTINGS["prune.ratio"])
    check = student_check.check_recipe(settings, profile)
    if not sizes and not shares:
        return check
    from edgekd.assessment.other_sizes import other_sizes

    return msgspec.structs.replace(check, others=other_sizes(settings, profile, sizes, shares))


def _numbers(option: str, text: str | None, setting: Setting) -> list[Any]:
    """The numbers of "64,96", each a value of the setting. Raises RecipeError for another."""
    found = []
    for part in listed(text or ""):
        try:
            found.append(setting.check(recipe_toml.parse_value(part)))
        except msgspec.ValidationError:
            raise RecipeError(
                f"{option} {text}: {part!r} is not {setting.expected}",
                f"for example {option} {EXAMPLES[option]}",
            ) from None
    return found


def _refuse_others(asked: Check, name: str) -> None:
    """Raise RecipeError for --sizes and --widths of a network that EdgeKD does not build."""
    if asked.sizes or asked.widths:
        raise RecipeError(
            f"--sizes and --widths are about a student that EdgeKD builds; {name} is none",
            "leave them out, or name a student or a recipe: edgekd models",
        )


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
