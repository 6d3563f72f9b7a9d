"""`edgekd check`: from the arguments to what a device makes of a model."""

from __future__ import annotations

from pathlib import Path

from edgekd.app.arguments import Check
from edgekd.app.results import CheckResult
from edgekd.app.settings import recipe_of
from edgekd.assessment import edit_ranking, student_check
from edgekd.assessment.check_record import DeviceCheck
from edgekd.settings.device_profiles import load_profile
from edgekd.settings.recipe import Recipe


def run(asked: Check) -> CheckResult:
    """Check what the arguments name. Raises EdgeKDError for what cannot be checked."""
    return judged(answer(asked))


def judged(check: DeviceCheck) -> CheckResult:
    """The result of a check, with what to do when it failed."""
    next_step = "" if check.passed else edit_ranking.next_step(check)
    return CheckResult(check, failed=tuple(check.failures), next_step=next_step)


def answer(asked: Check) -> DeviceCheck:
    """What the device makes of the model that the arguments name."""
    profile = load_profile(asked.profile)
    model = asked.model
    if isinstance(model, Recipe):
        return student_check.check_recipe(recipe_of(model, asked.settings, {}), profile)
    name = str(model)
    if student_check.is_model_file(name):
        return student_check.check_file(Path(name), profile)
    is_recipe = name.endswith(".toml")
    settings = recipe_of(
        name if is_recipe else None,
        asked.settings,
        {} if is_recipe else {"distil.student": name},
    )
    return student_check.check_recipe(settings, profile)
