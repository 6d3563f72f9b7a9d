"""The tables of a recipe as one dataclass, and every setting in them by its key."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, get_type_hints

from msgspec import Meta

from edgekd.settings import loss_catalogue
from edgekd.settings.compression_settings import EditsConfig, PruneConfig, QatConfig
from edgekd.settings.convert_settings import ConvertConfig
from edgekd.settings.image_settings import DataConfig, ViewsConfig
from edgekd.settings.port_settings import PortsConfig
from edgekd.settings.run_settings import RunConfig
from edgekd.settings.setting_types import Seed, Setting, settings_of
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


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The whole configuration of a build: one table per stage, and the seed.

    `given`: the settings that a user gave, by key, where `recipe.load` made the recipe. A preset or
    a plan leaves these as they are.
    """

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    views: ViewsConfig = dataclasses.field(default_factory=ViewsConfig)
    teacher: TeacherConfig = dataclasses.field(default_factory=TeacherConfig)
    distil: DistilConfig = dataclasses.field(default_factory=DistilConfig)
    edits: EditsConfig = dataclasses.field(default_factory=EditsConfig)
    federated: FederatedConfig = dataclasses.field(default_factory=FederatedConfig)
    prune: PruneConfig = dataclasses.field(default_factory=PruneConfig)
    qat: QatConfig = dataclasses.field(default_factory=QatConfig)
    ports: PortsConfig = dataclasses.field(default_factory=PortsConfig)
    certify: CertifyConfig = dataclasses.field(default_factory=CertifyConfig)
    budget: BudgetConfig = dataclasses.field(default_factory=BudgetConfig)
    confidence: ConfidenceConfig = dataclasses.field(default_factory=ConfidenceConfig)
    app_inputs: AppInputsConfig = dataclasses.field(default_factory=AppInputsConfig)
    subgroups: SubgroupConfig = dataclasses.field(default_factory=SubgroupConfig)
    medical: MedicalConfig = dataclasses.field(default_factory=MedicalConfig)
    card: CardConfig = dataclasses.field(default_factory=CardConfig)
    bench: BenchConfig = dataclasses.field(default_factory=BenchConfig)
    convert: ConvertConfig = dataclasses.field(default_factory=ConvertConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    seed: Annotated[Seed, Meta(description="Seed of everything random in a build.")] = 0
    given: frozenset[str] = dataclasses.field(default=frozenset(), compare=False, repr=False)


SECTIONS: dict[str, type] = {
    name: table for name, table in get_type_hints(Recipe).items() if name not in ("seed", "given")
}
LOSSES = "distil.losses"  # a table inside a section
OFF = 0.0  # the weight of a loss that is not used
TABLES = ("teacher.terms", "distil.options")  # settings that are, or may be, tables

# Every setting by its full name, such as "data.input_px".
SETTINGS: dict[str, Setting] = {
    setting.key: setting
    for setting in (
        settings_of(Recipe)["seed"],
        *(
            setting
            for section, table in SECTIONS.items()
            for setting in settings_of(table, f"{section}.").values()
        ),
    )
}


def setting_name(key: str) -> str:
    """The setting that a key is, or is a part of: "distil.losses" for "distil.losses.rkd"."""
    return next((table for table in (LOSSES, *TABLES) if key.startswith(f"{table}.")), key)


def loss_named(key: str) -> str:
    """NAME of the key "distil.losses.NAME", and "" of another key."""
    return key.removeprefix(f"{LOSSES}.") if key.startswith(f"{LOSSES}.") else ""


def value(recipe: Recipe, key: str) -> Any:
    """The value of a setting, or the weight of a loss, "distil.losses.NAME", which is 0 if off."""
    if name := loss_named(key):
        return next((term.weight for term in recipe.distil.losses if term.name == name), OFF)
    section, _, name = key.rpartition(".")
    return getattr(getattr(recipe, section) if section else recipe, name)


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """A recipe with some settings changed ({"data.input_px": 64}). The values are not checked.

    They do not count as given by a user. "distil.losses.NAME" changes one loss of several.
    """
    for key, value in values.items():
        if name := loss_named(key):
            every = {**loss_catalogue.plain(recipe.distil.losses), name: value}
            recipe = changed(recipe, {LOSSES: loss_catalogue.read(every, key)})
            continue
        section, _, name = key.partition(".")
        table = dataclasses.replace(getattr(recipe, section), **{name: value})
        recipe = dataclasses.replace(recipe, **{section: table})
    return recipe
