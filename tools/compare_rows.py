"""Rows of a comparison of methods: what differs between them, and what each is compared with."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edgekd.settings import loss_catalogue, presets, recipe
from edgekd.settings.setting_types import Toml
from tools.compare_images import LOGGED


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    `sets`: settings of the recipe. `teacher`: whether one is loaded. `alone`: the row of labels
    alone with the same number of steps and the same views, which this row is compared with.
    `preset`: the settings of the recipe give way to those of a preset. `peer`: a script of another
    kind trains it (`tools.plain_kd`).
    """

    name: str
    title: str
    sets: Mapping[str, Toml]
    teacher: bool = True
    alone: str = "none"
    preset: bool = False
    peer: bool = False


KD: dict[str, Toml] = {"distil.alpha": 0.9, "distil.pooled": 0.0}
LABELS: dict[str, Toml] = {"distil.alpha": 0.0, "distil.pooled": 0.0}
NONE = Row("none", "labels alone", {}, teacher=False)
PLAIN_KD = Row("kd", "plain KD", KD)
IN_PLACE_OF_KD = ("kd_standardised", "dkd", "nkd", "dist", "dist_batch")
WITHOUT_TEACHER = tuple(name for name, method in loss_catalogue.METHODS.items() if not method.needs)
LEFT_OUT = {
    "per_label": "it is for several labels an image",
    "fair": "it needs images with groups",
    "live": "its student is bit for bit that of the cached teacher",
}
# What a teacher is for. Without these settings a row is labels alone, with its steps and views.
TEACHING = (
    "teacher.",
    "distil.losses.",
    "distil.alpha",
    "distil.temperature",
    "distil.pooled",
    "distil.grid",
    "distil.exits",
    "distil.ramp",
    "distil.answers",
    "distil.top_k",
    "distil.labels",
    "distil.logs",
    "distil.pretrain",
)
# A comma before "table.key=" divides settings; one inside a value does not.
SETTINGS = re.compile(r",(?=\s*[a-z_]+(?:\.[a-z_0-9]+)*\s*=)")


def methods(log: Path, second: str) -> list[Row]:
    """A row for each method and mode, in the order of the table.

    `log`: the CSV file of logged answers. `second`: a second teacher as NAME or NAME@FILE, or "".
    """
    losses = {
        name: {f"distil.losses.{name}": method.weight}
        for name, method in loss_catalogue.METHODS.items()
    }
    titles = {name: method.title for name, method in loss_catalogue.METHODS.items()}
    special = (*IN_PLACE_OF_KD, *WITHOUT_TEACHER, *LEFT_OUT)
    found = [
        NONE,
        PLAIN_KD,
        Row("default", "the default recipe: KD + orthogonal projector (VkD)", {}),
        *(Row(name, titles[name], {**LABELS, **losses[name]}) for name in IN_PLACE_OF_KD),
        Row("features", "features first, then the default recipe", {"distil.pretrain": "features"}),
        Row("fitnet", "KD + grid-aligned FitNet", {**KD, "distil.grid": 1.0}),
        Row("ofa", "KD + OFA exits", {**KD, "distil.exits": 1.0}),
        *(
            Row(name, f"KD + {titles[name]}", {**KD, **losses[name]})
            for name in losses
            if name not in special
        ),
        *(Row(name, titles[name], losses[name], teacher=False) for name in WITHOUT_TEACHER),
        Row(
            "corrected",
            "the student proposes, the teacher corrects",
            {**KD, "distil.answers": "corrected"},
        ),
        Row(
            "withheld",
            "label-free: the teacher's answers stand in for the labels",
            {**KD, "distil.alpha": 1.0, "distil.labels": "withheld"},
        ),
        Row(
            "logs",
            f"from logs: a CSV of top-{LOGGED} answers, no teacher",
            {**KD, "distil.logs": str(log)},
        ),
        Row("script", "a bare KD script in plain torch (tools/plain_kd.py)", KD, peer=True),
    ]
    if second:
        title = f"two teachers by confidence: and {second.partition('@')[0]}"
        found.append(Row("several", title, {**KD, "teacher.others": (second,)}))
    return found


def of_presets() -> list[Row]:
    """A row for each preset. It has the preset's own epochs and views."""
    return [
        Row(name, f"preset {name}", {family.key: name}, preset=True)
        for family in presets.FAMILIES
        for name in family.presets
        if family is presets.TRAINING or name != family.plain
    ]


def own(text: str) -> Row:
    """A row of the user's, NAME=SETTING,SETTING. Raises SystemExit for another text."""
    name, equals, settings = text.partition("=")
    if not equals or not re.fullmatch(r"[\w-]+", name):
        sys.exit(f"--row {text!r}: expected NAME=SETTING,SETTING, as in long=distil.epochs=160")
    sets = recipe.parse(SETTINGS.split(settings))
    return Row(name, settings, sets, sets.get("teacher.name") != "none")


def chosen(known: Sequence[Row], names: Sequence[str] | None, added: Iterable[Row]) -> list[Row]:
    """The rows that are asked for, each after the row that it is compared with.

    `names`: of `known` rows; None for all but the presets, or for none if there are `added` ones.
    Raises SystemExit for an unknown name.
    """
    by_name, further = {row.name: row for row in known}, list(added)
    if names is None:
        names = [] if further else [row.name for row in known if not row.preset]
    if unknown := set(names) - set(by_name):
        sys.exit(f"unknown rows {', '.join(sorted(unknown))}; known: {', '.join(by_name)}")
    found: dict[str, Row] = {}
    for row in [*(row for row in known if row.name in names), *further]:
        alone = labels_alone(row)
        found.setdefault(alone.name, alone)
        found[row.name] = dataclasses.replace(row, alone=alone.name)
    return list(found.values())


def labels_alone(row: Row) -> Row:
    """Labels alone in as many steps and with the same views."""
    sets = {key: value for key, value in row.sets.items() if not key.startswith(TEACHING)}
    if not sets:
        return NONE
    if not row.teacher and sets == row.sets:
        return row
    name = f"{row.name}-alone"
    title = f"labels alone, with the steps and views of `{row.name}`"
    return Row(name, title, sets, teacher=False, alone=name, preset=row.preset)
