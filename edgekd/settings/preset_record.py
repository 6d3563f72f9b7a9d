"""What a preset came to in one build: as a record for reports, and in words."""

from __future__ import annotations

import enum

from edgekd.core.records import Record
from edgekd.settings import presets, recipe_toml
from edgekd.settings.presets import TRAINING, Choice, Family, Value, Where
from edgekd.settings.recipe_tables import Recipe, value


class By(enum.StrEnum):
    """Who chose the value of a setting.

    `PLAN`: neither the preset nor the user, but a search or `distil.minutes`, to fit into a time.
    `NOBODY`: it was left at its default, because the preset's value has no meaning in this build.
    """

    PRESET = "preset"
    USER = "user"
    PLAN = "plan"
    NOBODY = "nobody"


class PresetRow(Record, frozen=True):
    """A setting of a preset. `preset`: the value there, and `reason` for it. `used`: in the build,
    chosen `by`. `only`: where the preset sets it, in words.
    """

    setting: str
    preset: Value
    used: Value
    by: By
    only: str
    reason: str


class PresetBlock(Record, frozen=True):
    """A preset of a build, of `distil.preset` or `prune.preset`, with each setting that it has."""

    name: str
    settings: list[PresetRow]

    def __str__(self) -> str:
        """In words: "preset quick: distil.epochs 5, qat.epochs 1; yours: views.per_image 4"."""
        parts = []
        for by, mark in MARKS.items():
            rows = [row for row in self.settings if row.by is by]
            names = [
                f"{row.setting} (only {row.only})"
                if by is By.NOBODY
                else f"{row.setting} {spoken(row.used)}"
                for row in rows
            ]
            if rows:
                parts.append(f"{mark}{', '.join(names)}")
            elif by is By.PRESET:
                parts.append("sets nothing here")
        return f"preset {self.name}: {'; '.join(parts)}"


# How the settings that were chosen in one way are introduced, in this order.
MARKS = {
    By.PRESET: "",
    By.USER: "yours: ",
    By.PLAN: "planned: ",
    By.NOBODY: "left out: ",
}


def spoken(found: Value) -> str:
    """A value as it is written behind a setting's name: 0.3, 1, true, "withheld"."""
    return f"{found:g}" if isinstance(found, float) else recipe_toml.spelled(found)


def block(recipe: Recipe, family: Family = TRAINING) -> PresetBlock | None:
    """What the preset of a recipe came to; None for the one that sets nothing."""
    name = value(recipe, family.key)
    if name == family.plain:
        return None
    effective = presets.effective(family, recipe)
    rows = [
        _row(choice, recipe)
        for choice in family.chosen(recipe)
        if choice in effective or _is_left_out(choice, recipe)
    ]
    return PresetBlock(name, rows)


def _is_left_out(choice: Choice, recipe: Recipe) -> bool:
    """Whether a setting that does not apply is worth telling of."""
    told = choice.where in (Where.FEATURES, Where.LEARNED_FEATURES)
    return told and not recipe.convert.model


def _row(choice: Choice, recipe: Recipe) -> PresetRow:
    used, preset = value(recipe, choice.key), choice.value_for(recipe.distil.epochs)
    if presets.applies(choice, recipe) and used == preset:
        by = By.PRESET
    elif choice.key in recipe.given:
        by = By.USER
    else:
        by = By.PLAN if presets.applies(choice, recipe) else By.NOBODY
    return PresetRow(choice.key, preset, used, by, choice.where, choice.reason)
