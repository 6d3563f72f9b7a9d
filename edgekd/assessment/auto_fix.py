"""`--fix`: the edits after which every operator of a student maps and the device's limits are met.

After each edit the student is converted again by the route that a build takes, so the answer for
the edited recipe is no estimate.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekd.assessment import student_check
from edgekd.assessment.check_record import DeviceCheck
from edgekd.assessment.checked_file import tflite_of
from edgekd.assessment.edit_ranking import fixing_edit
from edgekd.core import atomic_files
from edgekd.core.errors import GateFailed, RecipeError
from edgekd.core.files import exists, reason
from edgekd.settings import recipe, recipe_toml
from edgekd.settings.device_profiles import DeviceProfile, load_profile
from edgekd.settings.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class FixedSettings:
    """The settings after the edits.

    `values`: the recipe's keys that make the edits, empty where no edit was needed.
    `check`: the answer of `edgekd check` after the edits.
    """

    settings: Recipe
    values: Mapping[str, str | int]
    check: DeviceCheck


def fix_settings(settings: Recipe, profile: DeviceProfile) -> FixedSettings:
    """Edit the student until every operator maps and the profile's limits are met.

    Raises GateFailed, naming the operator that no edit fixes, and whatever `edgekd check` raises.
    """
    values: dict[str, str | int] = {}
    check = student_check.check_recipe(settings, profile)
    while check.mapped.ends_at or not check.passed:
        edit = fixing_edit(check)
        # No setting makes the edit, or the edit was made already and did not help.
        if edit is None or edit.sets.items() <= values.items():
            ends = check.mapped.ends_at
            left = (
                f"{ends.op} #{ends.index}: {ends.status}" if ends else "\n  ".join(check.failures)
            )
            raise GateFailed(
                f"no edit that EdgeKD knows fixes {check.model} for {profile.name}; {left}",
                "choose another student (edgekd models), or another device (edgekd profiles)",
            )
        values |= edit.sets
        settings = recipe.changed(settings, edit.sets)
        check = student_check.check_recipe(settings, profile)
    return FixedSettings(settings, values, check)


@dataclasses.dataclass(frozen=True)
class FixedRecipe:
    """What `--fix` would write: `text` into `path`, in place of `before` ("" for a new file)."""

    fixed: FixedSettings
    path: Path
    before: str
    text: str

    @property
    def diff(self) -> str:
        """The change as a unified diff, empty where nothing changes."""
        old = str(self.path) if self.before else "/dev/null"
        return "".join(
            difflib.unified_diff(
                self.before.splitlines(True), self.text.splitlines(True), old, str(self.path)
            )
        )

    def write(self) -> None:
        """Write the recipe. Raises RecipeError when the file cannot be written."""
        if not self.diff:
            return
        try:
            atomic_files.replace(self.path, self.text.encode())
        except OSError as error:
            values = self.fixed.values.items()
            raise RecipeError(
                f"{self.path}: {reason(error)}",
                "the edits are " + ", ".join(f"--set {key}={value}" for key, value in values),
            ) from None


def fix_recipe(text: str, profile_name: str, sets: Sequence[str]) -> FixedRecipe:
    """The edited recipe of a path, or a new one for a student's name. Nothing is written yet.

    The new recipe's path is STUDENT-PROFILE.toml in the working directory. Raises RecipeError for
    a .tflite, or where the new recipe's path exists, and whatever `fix_settings` raises.
    """
    if tflite_of(text) is not None:
        raise RecipeError(
            f"{text} is a finished model, and --fix edits the student that it is made from",
            "name the recipe, or the student",
        )
    profile = load_profile(profile_name)
    settings = student_check.settings_of(text, sets)
    if text.endswith(".toml"):
        path = Path(text)
        before = recipe_toml.read_text(path)
        fixed = fix_settings(settings, profile)
        after = recipe_toml.edited(before, fixed.values) if fixed.values else before
        return FixedRecipe(fixed, path, before, after)
    path = Path(f"{settings.distil.student}-{profile.name}.toml")
    if exists(path):
        raise RecipeError(
            f"{path} exists already", f"edgekd check {path} --profile {profile_name} --fix edits it"
        )
    fixed = fix_settings(settings, profile)
    asked = {"distil.student": settings.distil.student, **recipe.parse(sets), **fixed.values}
    return FixedRecipe(fixed, path, "", recipe_toml.edited("", asked) if fixed.values else "")
