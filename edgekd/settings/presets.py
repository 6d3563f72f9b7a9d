"""Presets: sets of ordinary settings that `distil.preset` fills in, each with its reason.

A preset gives a value to the settings that nobody gave: neither the recipe, nor `--set`, nor an
option of the command line. Whatever is given wins, one setting at a time. "standard" is the
defaults of all settings.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from edgekd.settings.recipe_tables import SETTINGS, Recipe, setting_name
from edgekd.settings.setting_types import Toml
from edgekd.settings.training_settings import PresetName

KEY = "distil.preset"
STANDARD: PresetName = "standard"


class Where(enum.StrEnum):
    """The builds in which a preset sets a setting."""

    ALWAYS = "everywhere"
    FEATURES = "where a teacher shows its features"
    FINETUNED = "where the teacher is trained"
    FROZEN = "where only the teacher's head is fitted"
    PRUNED = "where the student is pruned"
    CLIENTS = "where clients teach"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A setting of a preset, by its key. `where` it is set, and the `reason` for its value."""

    key: str
    value: bool | int | float | str
    reason: str
    where: Where = Where.ALWAYS


_QUICK = (
    Choice("distil.epochs", 5, "a quarter of standard; it shows whether a student learns at all"),
    Choice("views.per_image", 2, "a quarter of standard, and so of the teacher's answers"),
    Choice("qat.epochs", 1, "the ranges settle within one epoch"),
    Choice("teacher.epochs", 3, "less than half of standard", Where.FINETUNED),
    Choice("prune.epochs", 1, "a fifth of standard", Where.PRUNED),
    Choice("federated.epochs", 5, "clients train as long as the student", Where.CLIENTS),
)

# After Beyer et al. 2022 (arXiv 2106.05237), where training takes 10 to 100 times as long as is
# usual. The losses differ from theirs, KL divergence alone. With it, one student of 350 images of
# Fashion-MNIST came to 75.5 % in 160 epochs, labels alone to 76.6 %, and the losses of standard to
# 80.4 %. On 180 X-rays and 300 epochs standard gave 84.6 %, and five times the weight of the
# teacher's features 86.5 %; the teacher has 86.9 %. One seed each; mixtures and crops were not
# compared then.
_PATIENT = (
    Choice(
        "distil.epochs",
        200,
        "ten times standard, on one long cosine: what the student sees hardly repeats, so that it "
        "goes on learning",
    ),
    Choice(
        "views.per_image",
        40,
        "five times standard; an epoch shows one of them, so that each is seen five times",
    ),
    Choice(
        "distil.pooled",
        5.0,
        "in a long training the teacher's features are worth more than its answers",
        Where.FEATURES,
    ),
    Choice(
        "teacher.head_views",
        8,
        "as in standard: a head on 40 views of each image takes more than five times as long",
        Where.FROZEN,
    ),
)

PRESETS: dict[PresetName, tuple[Choice, ...]] = {
    "quick": _QUICK,
    "standard": (),
    "patient": _PATIENT,
}
# Every setting that some preset sets.
KEYS = tuple(dict.fromkeys(choice.key for choices in PRESETS.values() for choice in choices))


def filled(recipe: Recipe) -> dict[str, Toml]:
    """What the preset of a recipe sets in it, by key: choices that apply and are not given."""
    return {
        choice.key: choice.value
        for choice in PRESETS[recipe.distil.preset]
        if choice.key not in recipe.given and applies(choice, recipe)
    }


def applies(choice: Choice, recipe: Recipe) -> bool:
    """Whether a build has a use for the setting of a choice."""
    if recipe.convert.model and not _of_conversion(choice, recipe):
        return False
    taught = recipe.teacher.name != "none" and not (recipe.distil.logs or recipe.federated.on)
    match choice.where:
        case Where.FEATURES:
            return taught and recipe.distil.answers != "corrected"
        case Where.FINETUNED:
            return taught and recipe.teacher.mode == "finetune" and not recipe.teacher.as_it_is
        case Where.FROZEN:
            return taught and recipe.teacher.mode == "frozen"
        case Where.PRUNED:
            return recipe.prune.on
        case Where.CLIENTS:
            return recipe.federated.on
        case Where.ALWAYS:
            return True


def _of_conversion(choice: Choice, recipe: Recipe) -> bool:
    """Whether a finished network of the user's, which QAT alone trains, has a use for a setting."""
    return bool(recipe.qat.epochs) and choice.key.partition(".")[0] in ("views", "qat")


def own(read: Mapping[str, Toml], later: Mapping[str, Toml]) -> dict[str, Toml]:
    """The values of a recipe's file, without those of its preset where `later` names another one.

    A file that a build has written holds the values of its preset. They are not the user's, and
    stand back for those of the other preset. A file that names no preset has only the user's.
    """
    before, named = read.get(KEY), later.get(KEY)
    replaced = next((each for name, each in PRESETS.items() if name == before), None)
    if replaced is None or named is None or before == named:
        return dict(read)
    standing = {key: SETTINGS[key].default for key in KEYS}
    standing |= {choice.key: choice.value for choice in replaced}
    return {
        key: value for key, value in read.items() if key not in standing or value != standing[key]
    }


def given(values: Mapping[str, Toml]) -> frozenset[str]:
    """The settings that some values give, by key."""
    return frozenset(map(setting_name, values))
