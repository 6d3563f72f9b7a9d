"""The recipe: everything a user can set about a build, read from TOML and checked.

A recipe is a TOML file with one table per stage. `--set stage.key=value` overrides it, and the
command line's own options (`--data`, `--teacher`, `--student`, `--seed`) override both. Every
setting has a default, so that an empty recipe builds something sensible. An unknown key is an
error that offers the nearest known one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from edgekd.core.errors import RecipeError, UnknownName
from edgekd.settings import loss_catalogue, model_specs, presets, recipe_checks, recipe_toml
from edgekd.settings.compression_settings import EditsConfig, PruneConfig, QatConfig
from edgekd.settings.convert_settings import ConvertConfig
from edgekd.settings.image_settings import DataConfig, ViewsConfig
from edgekd.settings.port_settings import PortsConfig
from edgekd.settings.recipe_tables import LOSSES, OFF, SECTIONS, SETTINGS, TABLES, Recipe, changed
from edgekd.settings.run_settings import RunConfig
from edgekd.settings.setting_types import Setting, Toml, check_text, spoken
from edgekd.settings.teacher_settings import TeacherConfig
from edgekd.settings.training_settings import DistilConfig, FederatedConfig
from edgekd.settings.verdict_settings import (
    AppInputsConfig,
    BenchConfig,
    BudgetConfig,
    CardConfig,
    CertifyConfig,
    ConfidenceConfig,
    MedicalConfig,
    SubgroupConfig,
)

__all__ = [
    "LOSSES",
    "SECTIONS",
    "SETTINGS",
    "AppInputsConfig",
    "BenchConfig",
    "BudgetConfig",
    "CardConfig",
    "CertifyConfig",
    "ConfidenceConfig",
    "ConvertConfig",
    "DataConfig",
    "DistilConfig",
    "EditsConfig",
    "FederatedConfig",
    "MedicalConfig",
    "PortsConfig",
    "PruneConfig",
    "QatConfig",
    "Recipe",
    "RunConfig",
    "SubgroupConfig",
    "TeacherConfig",
    "ViewsConfig",
    "changed",
    "extended",
    "load",
    "parse",
    "to_toml",
]


def load(
    path: Path | None, sets: Iterable[str] = (), overrides: Mapping[str, Toml] | None = None
) -> Recipe:
    """Read a recipe, apply `--set` texts, then `overrides` ({"data.source": ..., "seed": ...}).

    A preset then fills in the settings that none of these gives. Raises RecipeError or UnknownName
    with the file or the key in the message.
    """
    model_specs.look_beside(path)
    read = {} if path is None else recipe_toml.read(path)
    return _layered(read, str(path) if path else "--set", parse(sets), overrides or {})


def extended(
    start: Recipe, sets: Iterable[str] = (), overrides: Mapping[str, Toml] | None = None
) -> Recipe:
    """A recipe with `--set` texts and then `overrides` applied, as `load` applies them to a file.

    What the preset of `start` has filled in is filled in again. Of a Recipe that was not loaded,
    the settings that differ from their defaults count as given.
    """
    every = recipe_toml.by_key(to_toml(start))
    kept = {key: value for key, value in every.items() if key in start.given}
    base = recipe_toml.by_key(to_toml(_filled(kept, dict.fromkeys(kept, ""), "")))
    own = {
        key: value
        for key, value in every.items()
        if key in kept or value != base.get(key, OFF)  # only a loss may lack a key
    }
    return _layered(own, "the recipe", parse(sets), overrides or {})


def _layered(
    read: Mapping[str, Toml], where: str, typed: Mapping[str, Toml], overrides: Mapping[str, Toml]
) -> Recipe:
    """The checked recipe of values in three layers, the last of which wins. `where`: the first."""
    values = {**presets.own(read, {**typed, **overrides}), **typed, **overrides}
    # A later value replaces an earlier one, and so does its place in messages.
    places = {**dict.fromkeys(read, where), **dict.fromkeys(typed, "--set")}
    places.update(dict.fromkeys(overrides, "the arguments"))
    recipe = _filled(values, places, where)
    recipe_checks.check_together(recipe, where)
    return recipe


def _filled(values: Mapping[str, Toml], places: Mapping[str, str], where: str) -> Recipe:
    """The recipe of some values, and of its preset for the others."""
    recipe = dataclasses.replace(_build(values, places, where), given=presets.given(values))
    return changed(recipe, presets.filled(recipe))


def parse(sets: Iterable[str]) -> dict[str, Toml]:
    """`--set` texts as {"stage.key": value}. Raises RecipeError without an equals sign."""
    values = {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(
                f"--set {text!r}: expected stage.key=value", "for example --set data.input_px=96"
            )
        values[key.strip()] = recipe_toml.parse_value(value.strip())
    return values


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML with every setting. `load` of the text gives the same recipe."""
    tables: dict[str, Toml] = {"seed": recipe.seed}
    for section in SECTIONS:
        tables[section] = dict(vars(getattr(recipe, section)))
    losses = loss_catalogue.plain(recipe.distil.losses)
    tables["distil"] = {**vars(recipe.distil), "losses": {**presets.losses_off(recipe), **losses}}
    return recipe_toml.write(tables)


# Checked values by section and name. Each has the type of its field, so that no type fits them all.
_Tables = dict[str, dict[str, Any]]


def _build(values: Mapping[str, Toml], places: Mapping[str, str], where: str) -> Recipe:
    """The recipe of some values.

    For messages, `places` says where each value stands, and `where` where they stand together.
    """
    tables: _Tables = {name: {} for name in SECTIONS}
    seed, losses = Recipe.seed, dict[str, Toml]()
    for key, value in values.items():
        if key == "seed":
            seed = _checked(SETTINGS[key], value, places[key])
        elif key == LOSSES or key.startswith(f"{LOSSES}."):
            _add_loss(losses, key.removeprefix(LOSSES).lstrip("."), value, places[key])
        elif table := next((name for name in TABLES if key.startswith(f"{name}.")), ""):
            _add_to_table(tables, table, key.removeprefix(f"{table}."), value, places[key])
        else:
            setting = _setting(key, places[key])
            section, _, name = key.partition(".")
            tables[section][name] = _checked(setting, value, places[key])
    federated = FederatedConfig(**tables.pop("federated"))
    if federated.on:
        _federate(tables, where)
    distil = DistilConfig(**tables.pop("distil"), losses=loss_catalogue.read(losses, where))
    rest = {name: SECTIONS[name](**table) for name, table in tables.items()}
    return Recipe(**rest, distil=distil, federated=federated, seed=seed)


def _setting(key: str, where: str) -> Setting:
    """The setting of a key.

    Raises UnknownName with the nearest name, and RecipeError for the name of a whole section.
    """
    section, dot, _ = key.partition(".")
    if section not in SECTIONS:
        raise UnknownName(
            "recipe section",
            section,
            [*SECTIONS, "seed"],
            f"sections are {', '.join(SECTIONS)} (in {where})",
        )
    if not dot:
        raise RecipeError(
            f"{where}: {key!r} is a section and takes no value of its own", f"write {key}.KEY=VALUE"
        )
    if key not in SETTINGS:
        known = [name for name in SETTINGS if name.startswith(f"{section}.")]
        names = ", ".join(name.partition(".")[2] for name in known)
        raise UnknownName("recipe key", key, known, f"keys of [{section}]: {names} (in {where})")
    return SETTINGS[key]


def _checked(setting: Setting, value: Toml, where: str) -> Any:
    """The value as the setting's type.

    Raises RecipeError that says what was expected, and UnknownName for a value that is no choice.
    """
    try:
        found = setting.check(value)
    except msgspec.ValidationError:
        pass
    else:
        check_text(setting.key, found, where)
        return found
    if setting.choices:
        raise UnknownName(
            f"value for {setting.key}:",
            spoken(value).strip("'"),
            setting.choices,
            f"one of {', '.join(map(repr, setting.choices))} (in {where})",
        )
    raise RecipeError(
        f"{where}: {setting.key} is {spoken(value)}, expected {setting.expected}",
        f"--set {setting.key}=VALUE sets it, for example --set {setting.key}={setting.example}",
    )


def _add_loss(losses: dict[str, Toml], name: str, value: Toml, where: str) -> None:
    """Put `distil.losses[.NAME[.PARAMETER]] = value` over the losses that earlier values name."""
    loss, dot, parameter = name.partition(".")
    if not loss:
        if not isinstance(value, dict):
            raise RecipeError(
                f"{where}: distil.losses is {spoken(value)}, expected a table",
                "--set distil.losses.NAME=WEIGHT",
            )
        losses.update(value)
    elif not dot:
        losses[loss] = value
    else:
        before = losses.get(loss, {})
        table = before if isinstance(before, dict) else {"weight": before}
        losses[loss] = {**table, parameter: value}


def _add_to_table(tables: _Tables, key: str, name: str, value: Toml, where: str) -> None:
    """Put `key.NAME = value` over the values that the table has so far."""
    section, _, field = key.partition(".")
    before = tables[section].get(field)
    table = before if isinstance(before, dict) else {}
    tables[section][field] = _checked(SETTINGS[key], {**table, name: value}, where)


def _federate(tables: _Tables, where: str) -> None:
    """Withhold the shared images' labels from the student, whose teachers are the clients.

    Raises RecipeError for a setting that needs these labels, or another teacher.
    """
    distil = tables["distil"]
    if distil.setdefault("labels", "withheld") != "withheld":
        raise RecipeError(
            f"{where}: distil.labels is {distil['labels']!r}, but with [federated] the clients "
            "share images without labels",
            "leave out distil.labels, or [federated]",
        )
    if distil.get("logs") or distil.get("answers", "cached") != "cached":
        raise RecipeError(
            f"{where}: with [federated] the clients are the teachers, but distil.logs or "
            "distil.answers asks for another teacher",
            "leave one of the two out",
        )
    if tables["data"].get("unlabelled"):
        raise RecipeError(
            f"{where}: data.unlabelled needs a teacher that labels the images, and [federated] has "
            "none",
            "leave one of the two out",
        )
