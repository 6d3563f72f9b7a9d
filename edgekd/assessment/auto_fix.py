"""`--fix`: the edits after which a student maps whole and meets the device's floor, and the recipe that holds them.

After each edit the student is converted again by the build's own route, so what is said of the mended recipe is no guess.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekd.assessment import student_check
from edgekd.core import store
from edgekd.core.errors import GateFailed, RecipeError
from edgekd.settings import recipe, recipe_toml
from edgekd.settings.device_profiles import DeviceProfile, load_profile
from edgekd.settings.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Mended:
    """`body`: the answer of `edgekd check` after the edits. `values`: the recipe's keys that make them, empty where none
    was needed.
    """

    settings: Recipe
    values: Mapping[str, Any]
    body: dict[str, Any]


def mend(settings: Recipe, profile: DeviceProfile) -> Mended:
    """Edit until every op maps and the floor is met.

    Raises GateFailed, naming the op that no edit mends, and whatever `edgekd check` raises.
    """
    values: dict[str, Any] = {}
    body = student_check.check_recipe(settings, profile)
    while body["mapped"]["ends_at"] or not body["passed"]:
        edit = student_check.mending(body)
        if (
            edit is None or edit["sets"].items() <= values.items()
        ):  # no setting makes it, or it was made and did not help
            ends = body["mapped"]["ends_at"]
            left = (
                f"{ends['op']} #{ends['index']}: {ends['status']}"
                if ends
                else "\n  ".join(body["failures"])
            )
            raise GateFailed(
                f"no edit that EdgeKD knows mends {body['model']} for {profile.name}; {left}",
                "another student (edgekd models), or another device",
            )
        values |= edit["sets"]
        settings = recipe.changed(settings, edit["sets"])
        body = student_check.check_recipe(settings, profile)
    return Mended(settings, values, body)


@dataclasses.dataclass(frozen=True)
class Fix:
    """What `--fix` would write: `path` with `text`, where `before` stood ("" for a new file)."""

    mended: Mended
    path: Path
    before: str
    text: str

    @property
    def diff(self) -> str:
        """Unified, as `diff -u` prints it; empty where nothing changes."""
        old = str(self.path) if self.before else "/dev/null"
        return "".join(
            difflib.unified_diff(
                self.before.splitlines(True), self.text.splitlines(True), old, str(self.path)
            )
        )

    def write(self) -> None:
        """Write the recipe. Raises RecipeError when it cannot be."""
        if not self.diff:
            return
        try:
            store.replace(self.path, self.text.encode())
        except OSError as error:
            raise RecipeError(
                f"{self.path}: {error.strerror}",
                "the edits are "
                + ", ".join(f"--set {key}={value}" for key, value in self.mended.values.items()),
            ) from None


def fix(text: str, profile_name: str, sets: Sequence[str]) -> Fix:
    """The recipe at a path, mended; or for a student's name a new one, STUDENT-PROFILE.toml here. Nothing is written yet.

    Raises RecipeError for a .tflite, or where a new recipe would stand in another file's place; and what `mend` raises.
    """
    if student_check.is_file(text):
        raise RecipeError(
            f"{text} is a finished model, and --fix edits the student that it is made from",
            "name the recipe, or the student",
        )
    profile = load_profile(profile_name)
    settings = student_check.settings_of(text, sets)
    if text.endswith(".toml"):
        path = Path(text)
        before = recipe_toml.read_text(path)
        mended = mend(settings, profile)
        return Fix(
            mended,
            path,
            before,
            recipe_toml.edited(before, mended.values) if mended.values else before,
        )
    path = Path(f"{settings.distil.student}-{profile.name}.toml")
    if path.exists():
        raise RecipeError(
            f"{path} exists already", f"edgekd check {path} --profile {profile_name} --fix edits it"
        )
    mended = mend(settings, profile)
    asked = {"distil.student": settings.distil.student, **recipe.parse(sets), **mended.values}
    return Fix(mended, path, "", recipe_toml.edited("", asked) if mended.values else "")
