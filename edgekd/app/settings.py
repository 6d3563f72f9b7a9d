"""From the arguments `recipe` and `settings` to a Recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import tomlkit.exceptions

from edgekd.app.arguments import PathLike, Settings
from edgekd.core.errors import RecipeError
from edgekd.settings import recipe, recipe_toml
from edgekd.settings.recipe import Recipe
from edgekd.settings.setting_types import Toml


def recipe_of(
    start: PathLike | Recipe | None, settings: Settings, own: Mapping[str, Toml]
) -> Recipe:
    """The recipe `start` (a file, a Recipe, or None for the defaults) with `settings` and `own`.

    `own`, the values of other arguments by their key in the recipe, wins over `settings`. Raises
    RecipeError or UnknownName.
    """
    if isinstance(start, Recipe):
        return recipe.extended(start, sets(settings), own)
    return recipe.load(None if start is None else Path(start), sets(settings), own)


def sets(settings: Settings) -> list[str]:
    """Settings as `--set` takes them: ["stage.key=value"]. Raises RecipeError."""
    if not isinstance(settings, Mapping):
        return list(settings)
    return [f"{key}={_spelled(key, value)}" for key, value in settings.items()]


def _spelled(key: str, value: Toml) -> str:
    try:
        return recipe_toml.spelled(value)
    except (TypeError, ValueError, tomlkit.exceptions.TOMLKitError):
        raise RecipeError(
            f"{key}: a {type(value).__name__} is no value of a recipe",
            "give a number, a string, True, False, a list or a dict",
        ) from None


def listed(text: str) -> list[str]:
    """The names of "int8,float16"."""
    return [part for part in re.split(r"[,\s]+", text) if part]
