"""The arguments of a build that stand for keys of its recipe."""

from __future__ import annotations

from edgekd.app import timed_build
from edgekd.app.arguments import Build, Settings
from edgekd.app.settings import listed, sets
from edgekd.core.errors import RecipeError
from edgekd.networks.foreign.forms import split_weights
from edgekd.settings import presets
from edgekd.settings.setting_types import Toml


def own(asked: Build) -> dict[str, Toml]:
    """The arguments that stand for keys of the recipe, by key."""
    found: dict[str, Toml] = {}
    if asked.data is not None:
        found["data.source"] = str(asked.data)
    if asked.teacher is not None:
        found |= _network(asked.teacher, "teacher.name", "teacher.weights", asked.settings)
    if asked.teacher_frozen:
        found["teacher.mode"] = "frozen"
    if asked.teacher_as_is:
        found["teacher.mode"], found["teacher.epochs"] = "finetune", 0
    if asked.student is not None:
        found |= _network(asked.student, "distil.student", "distil.weights", asked.settings)
    if asked.preset is not None:
        found |= presets.of_names(listed(asked.preset))
    if asked.minutes is not None:
        found[timed_build.KEY] = asked.minutes
    if asked.device is not None:
        found["run.device"] = asked.device
    if asked.formats is not None:
        found["convert.formats"] = [*listed(asked.formats)]
    if asked.seed is not None:
        found["seed"] = asked.seed
    return found


def _network(text: str, name: str, weights: str, settings: Settings) -> dict[str, Toml]:
    """The two keys of a network that is given as NAME@FILE or NAME.

    A NAME alone drops the weights of the recipe's file, which are another network's, and leaves
    those of a setting of the same command.
    """
    found, file = name_and_file(text)
    told = any(setting.partition("=")[0].strip() == weights for setting in sets(settings))
    return {name: found} if told and not file else {name: found, weights: file}


def name_and_file(text: str) -> tuple[str, str]:
    """NAME@FILE as (name, file); the file is "" where there is none. Raises RecipeError."""
    name, file = split_weights(text)
    if text.endswith("@"):
        raise RecipeError(f"{text!r} names no file after @", "write NAME@FILE, or NAME alone")
    return name, file
