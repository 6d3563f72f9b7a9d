"""Presets: sets of ordinary settings that one setting fills in, each with its reason.

A preset gives a value to the settings that nobody gave: neither the recipe, nor `--set`, nor an
option of the command line. Whatever is given wins, one setting at a time. There are two families:
`distil.preset` chooses how the student is trained, and `prune.preset` how it is made smaller
afterwards.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping

from edgekd.core.errors import RecipeError
from edgekd.settings import loss_catalogue
from edgekd.settings.recipe_tables import (
    LOSSES,
    OFF,
    Recipe,
    changed,
    loss_named,
    setting_name,
    value,
)
from edgekd.settings.setting_types import Toml
from edgekd.settings.training_settings import DistilConfig

KEY = "distil.preset"
Value = bool | int | float | str


class Where(enum.StrEnum):
    """The builds in which a preset sets a setting."""

    ALWAYS = "everywhere"
    FEATURES = "where a teacher shows its features"
    LEARNED_FEATURES = "where a teacher shows its features, and EdgeKD fits at least its head"
    FINETUNED = "where the teacher is trained"
    FROZEN = "where only the teacher's head is fitted"
    NO_GOAL = "where no other setting says how much is cut"
    PRUNED = "where the student is pruned"
    CLIENTS = "where clients teach"


@dataclasses.dataclass(frozen=True)
class EpochShare:
    """A number of epochs: a share of distil.epochs, and at least one."""

    share: float

    def of(self, epochs: int) -> int:
        """The number for so many epochs of float training."""
        return max(1, round(self.share * epochs))

    def __str__(self) -> str:
        return f"{self.share:g} * distil.epochs"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A setting of a preset, by its key. `where` it is set, and the `reason` for its value."""

    key: str
    value: Value | EpochShare
    reason: str
    where: Where = Where.ALWAYS

    def value_for(self, epochs: int) -> Value:
        """The value where float training takes so many epochs."""
        return self.value.of(epochs) if isinstance(self.value, EpochShare) else self.value


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
# compared then. The contrast was compared later, with six seeds on the same X-rays and on two other
# sets.
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
        "distil.losses.infonce",
        0.8,
        "beside the larger weight of the features it gained two points of top-1 on two of three "
        "data sets (docs/measured/distillation.md)",
        Where.LEARNED_FEATURES,
    ),
    Choice(
        "teacher.head_views",
        8,
        "as in standard: a head on 40 views of each image takes more than five times as long",
        Where.FROZEN,
    ),
)

# The order is that of the stages. Malihi and Heidemann 2023 (Big Data Cogn. Comput. 7, 154) combine
# distillation, pruning and fine-tuning: on CIFAR most of their pruned students were as accurate as
# the distilled ones. Han et al. 2016 (arXiv 1510.00149) prune before they quantize. Zhu and Gupta
# 2017 (arXiv 1710.01878) prune gradually during training, single weights and not channels. On the
# other side, Zhou and Shen 2026 (arXiv 2604.04988) prune single weights first, then train with
# int8, and distil last. Only the abstracts of these were read. In EdgeKD no other order was
# compared, and neither was this preset as a whole.
_DISTIL_PRUNE_QUANTISE = (
    Choice(
        "prune.target_macs",
        0.62,
        "as in docs/measured/distillation.md, where rounding to channels left 0.58 and int8 top-1 "
        "did not fall (3 seeds); half of each group cost 3.8 to 8.9 points of top-1 on "
        "Fashion-MNIST (docs/measured/search.md)",
        Where.NO_GOAL,
    ),
    Choice(
        "prune.steps",
        3,
        "as in both measurements; the weights recover between cuts. Other numbers were not "
        "compared",
        Where.PRUNED,
    ),
    Choice(
        "prune.epochs",
        EpochShare(0.25),
        "after each cut, and so three quarters of float training after all of them: 15 epochs "
        "after 24 were enough where it was measured",
        Where.PRUNED,
    ),
    Choice(
        "prune.lr",
        0.02,
        "as where it was measured: two fifths of float training's from random weights. Le and Hua "
        "2021 (Network Pruning That Matters) find that a large rate is what helps retraining",
        Where.PRUNED,
    ),
    Choice(
        "qat.epochs",
        EpochShare(0.15),
        "3 for 20, as in standard; NVIDIA's toolkit usually takes a tenth of the training. Longer "
        "ones were not compared",
        Where.PRUNED,
    ),
)


@dataclasses.dataclass(frozen=True)
class Family:
    """The presets among which one setting chooses, by name. `key`: that setting. `plain`: the
    preset that sets nothing.
    """

    key: str
    plain: str
    presets: Mapping[str, tuple[Choice, ...]]

    @property
    def keys(self) -> tuple[str, ...]:
        """Every setting that some preset sets."""
        return tuple(dict.fromkeys(choice.key for each in self.presets.values() for choice in each))

    def chosen(self, recipe: Recipe) -> tuple[Choice, ...]:
        """The choices of the preset that a recipe names."""
        return self.presets[value(recipe, self.key)]

    def named(self, values: Mapping[str, Toml]) -> tuple[Choice, ...] | None:
        """The choices of the preset that some values name; None where they name none."""
        name = values.get(self.key)
        return next((each for known, each in self.presets.items() if known == name), None)


TRAINING = Family(KEY, "standard", {"quick": _QUICK, "standard": (), "patient": _PATIENT})
COMPRESSION = Family(
    "prune.preset", "none", {"none": (), "distil-prune-quantise": _DISTIL_PRUNE_QUANTISE}
)
# A later family wins where both set the same setting.
FAMILIES = (TRAINING, COMPRESSION)
# Every setting that some preset sets.
KEYS = tuple(dict.fromkeys(key for family in FAMILIES for key in family.keys))


def filled(recipe: Recipe) -> dict[str, Toml]:
    """What the presets of a recipe set in it, by key: choices that apply and are not given.

    Each choice sees what those before it have set.
    """
    found: dict[str, Toml] = {}
    for family in FAMILIES:
        for choice in family.chosen(recipe):
            if choice.key not in recipe.given and applies(choice, recipe):
                found[choice.key] = choice.value_for(recipe.distil.epochs)
                recipe = changed(recipe, {choice.key: found[choice.key]})
    return found


def effective(family: Family, recipe: Recipe) -> list[Choice]:
    """The choices of a family's preset that apply, without those that a later family makes."""
    later = FAMILIES[FAMILIES.index(family) + 1 :]
    taken = {
        choice.key for other in later for choice in other.chosen(recipe) if applies(choice, recipe)
    }
    return [
        choice
        for choice in family.chosen(recipe)
        if choice.key not in taken and applies(choice, recipe)
    ]


def applies(choice: Choice, recipe: Recipe) -> bool:
    """Whether a build has a use for the setting of a choice."""
    if recipe.convert.model and not _of_conversion(choice, recipe):
        return False
    taught = recipe.teacher.name != "none" and not (recipe.distil.logs or recipe.federated.on)
    features = taught and recipe.distil.answers != "corrected"
    match choice.where:
        case Where.FEATURES:
            return features
        case Where.LEARNED_FEATURES:  # a finished network may give nothing but its answers
            return features and not recipe.teacher.as_it_is
        case Where.FINETUNED:
            return taught and recipe.teacher.mode == "finetune" and not recipe.teacher.as_it_is
        case Where.FROZEN:
            return taught and recipe.teacher.mode == "frozen"
        case Where.NO_GOAL:
            return not (recipe.prune.ratio or recipe.prune.target_latency)
        case Where.PRUNED:
            return recipe.prune.on
        case Where.CLIENTS:
            return recipe.federated.on
        case Where.ALWAYS:
            return True


def _of_conversion(choice: Choice, recipe: Recipe) -> bool:
    """Whether a finished network of the user's, which QAT alone trains, has a use for a setting."""
    return bool(recipe.qat.epochs) and choice.key.partition(".")[0] in ("views", "qat")


def losses_off(recipe: Recipe) -> dict[str, Toml]:
    """The losses that the presets of a recipe would have turned on and that it turns off, by name.

    A recipe has to say so, or the preset would turn them on again.
    """
    return {
        loss_named(choice.key): OFF
        for family in FAMILIES
        for choice in effective(family, recipe)
        if loss_named(choice.key) and not value(recipe, choice.key)
    }


def own(read: Mapping[str, Toml], later: Mapping[str, Toml]) -> dict[str, Toml]:
    """The values of a recipe's file, without those of its presets where `later` names another one.

    A file that a build has written holds the values of its presets. They are not the user's, and
    stand back for those of the other preset. A file that names no preset has only the user's.
    """
    known = [
        (family, choices) for family in FAMILIES if (choices := family.named(read)) is not None
    ]
    if all(later.get(family.key) in (None, read[family.key]) for family, _ in known):
        return dict(read)
    told = read.get("distil.epochs")
    epochs = told if isinstance(told, int) else DistilConfig.epochs
    standing: dict[str, Value] = {}
    for family, choices in known:
        standing = {key: value(Recipe(), key) for key in family.keys} | standing
        standing |= {choice.key: choice.value_for(epochs) for choice in choices}
    return {
        key: value_
        for key, value_ in read.items()
        if key not in standing or not _is(key, value_, standing[key])
    }


def _is(key: str, found: Toml, preset: Value) -> bool:
    """Whether a value of a file is a preset's. A loss may stand there with all its parameters."""
    if name := loss_named(key):
        return loss_catalogue.read({name: found}, key) == loss_catalogue.read({name: preset}, key)
    return found == preset


def given(values: Mapping[str, Toml]) -> frozenset[str]:
    """The settings that some values give, by key, and each loss that they give."""
    found = set(map(setting_name, values))
    for key, value_ in values.items():
        if key == LOSSES and isinstance(value_, dict):
            found |= {f"{LOSSES}.{name}" for name in value_}
        elif name := loss_named(key):
            found.add(f"{LOSSES}.{name.partition('.')[0]}")
    return frozenset(found)


def of_names(names: Iterable[str]) -> dict[str, Toml]:
    """The settings of `--preset NAME,NAME`, by key: a preset of each family.

    An unknown name is left to the check of `distil.preset`. Raises RecipeError for two names of
    one family.
    """
    found: dict[str, Toml] = {}
    for name in names:
        key = next((family.key for family in FAMILIES if name in family.presets), KEY)
        if key in found:
            raise RecipeError(
                f"--preset names {found[key]} and {name}, which exclude each other",
                "name one of them, and beside it distil-prune-quantise if you like",
            )
        found[key] = name
    return found
