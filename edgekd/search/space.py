"""The search space: which students, at which sizes and widths, in which number formats.

A user narrows it in a TOML file. What the file leaves out keeps its default:

    students = ["mobilenetv2_050", "tf_efficientnet_lite0", "mynet@weights.safetensors"]
    input_px = [96, 128]
    pruned = [0.0, 0.25]

    [edits]
    hard_swish = ["", "relu6"]
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgekd.core.errors import RecipeError, UnknownName
from edgekd.core.number_formats import NumberFormat
from edgekd.networks.foreign.forms import split_weights
from edgekd.search.candidate import Candidate
from edgekd.settings import model_specs, recipe_toml
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.settings.setting_types import Setting, Toml, check_text, settings_of, spoken

KIND = "search space"  # of the file, in messages
HOW = "edgekd search --write-space space.toml writes one with every key"
RANDOM = "none"  # of distil.weights: random first weights
TABLE = "edits"  # the table of the file that holds the choices of EditChoices


@dataclasses.dataclass(frozen=True)
class EditChoices:
    """What may be changed in a student. "" is what the device's profile says."""

    hard_swish: Annotated[
        tuple[Literal["", "keep", "relu6"], ...],
        Meta(description="What replaces hard-swish activations."),
    ] = ("", "relu6")
    squeeze_excite: Annotated[
        tuple[Literal["", "keep", "remove", "hard_gate"], ...],
        Meta(description="What becomes of squeeze-and-excite blocks."),
    ] = ("", "remove")
    gelu: Annotated[
        tuple[Literal["", "keep", "relu6"], ...],
        Meta(description="What replaces GELU activations."),
    ] = ("",)
    pooling: Annotated[
        tuple[Literal["", "mean", "average_pool"], ...],
        Meta(description="The operator of the global pooling."),
    ] = ("",)


@dataclasses.dataclass(frozen=True)
class Space:
    """The values that each setting of a candidate may take. Every combination is a candidate."""

    students: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Networks to try: names of `edgekd models` or of timm, each with its first "
            "weights as NAME@FILE or NAME@none."
        ),
    ]
    # Steps of a seventh to a quarter: a whole network at the largest size that keeps a latency
    # needs no fine-tuning, which one that is pruned at the next size does. Multiples of 16, half of
    # the total stride of the MobileNets, so that the last stride alone meets an odd side.
    input_px: Annotated[
        tuple[Annotated[int, Meta(ge=32, le=1024)], ...],
        Meta(description="Sides of the input, in pixels."),
    ] = (64, 80, 96, 112, 128, 160)
    # 0.75 is the most that pruning takes (pruning_plan.MOST).
    pruned: Annotated[
        tuple[Annotated[float, Meta(ge=0, le=0.75)], ...],
        Meta(description="Shares of the channels that structured pruning takes. 0: no pruning."),
    ] = (0.0, 0.25, 0.5, 0.75)
    formats: Annotated[
        tuple[NumberFormat, ...],
        Meta(description="Number formats of the file that is judged and shipped."),
    ] = (NumberFormat.INT8,)
    edits: EditChoices = dataclasses.field(default_factory=EditChoices)


SETTINGS: dict[str, Setting] = {
    **{name: one for name, one in settings_of(Space).items() if name != TABLE},
    **{one.key: one for one in settings_of(EditChoices, f"{TABLE}.").values()},
}


def default() -> Space:
    """Every student of models/, with the default of every other setting."""
    found = [name for name in model_specs.names() if "student" in model_specs.spec(name).roles]
    return Space(students=tuple(found))


def load(path: Path) -> Space:
    """The space of a TOML file. Raises RecipeError or UnknownName that names the file and key."""
    model_specs.look_beside(path)
    values: dict[str, Any] = {}
    edits: dict[str, Any] = {}
    for key, value in recipe_toml.read(path, KIND, HOW).items():
        checked = _checked(key, value, path)
        if key.startswith(f"{TABLE}."):
            edits[key.partition(".")[2]] = checked
        else:
            values[key] = checked
    return dataclasses.replace(default(), **values, edits=EditChoices(**edits))


def _checked(key: str, value: Toml, path: Path) -> Any:
    """The value as its setting's type, a list without repetitions that is not empty."""
    if key not in SETTINGS:
        known = ", ".join(SETTINGS)
        raise UnknownName(f"key in {path}:", key, SETTINGS, f"known keys: {known}")
    setting = SETTINGS[key]
    # A single value stands for a list of one.
    listed = value if isinstance(value, list | tuple) else [value]
    try:
        found = setting.check(list(listed))
    except msgspec.ValidationError:
        raise RecipeError(
            f"{path}: {key} is {spoken(value)}, expected {setting.expected}",
            HOW,
        ) from None
    check_text(key, found, str(path))
    if not found:
        raise RecipeError(
            f"{path}: {key} is empty, so that there is no candidate",
            f"name at least one value, or leave {key} out",
        )
    return tuple(dict.fromkeys(found))


def to_toml(space: Space) -> str:
    """The space as TOML with a comment above every key. `load` of the text gives the same space."""
    lines = ["# What `edgekd search` may choose from. Remove what you do not want to be tried."]
    edits = False
    for key, setting in SETTINGS.items():
        table, _, name = key.rpartition(".")
        if table and not edits:
            edits = True
            lines += ["", f"[{table}]", '# "": what the profile of the device says.']
        value = getattr(space.edits if table else space, name)
        lines += ["", f"# {setting.description}", *_listed(name, value)]
    return "\n".join(lines) + "\n"


def _listed(name: str, values: tuple[Any, ...]) -> Iterator[str]:
    """A list in TOML, with a line for each text so that a line can be taken out."""
    plain = [value.value if isinstance(value, NumberFormat) else value for value in values]
    if len(plain) > 1 and all(isinstance(value, str) for value in plain):
        yield f"{name} = ["
        yield from (f"    {recipe_toml.spelled(value)}," for value in plain)
        yield "]"
    else:
        yield f"{name} = {recipe_toml.spelled(plain)}"


def candidates(space: Space, profile: DeviceProfile) -> list[Candidate]:
    """Every candidate of a space, each once, those with trained weights first.

    An edit that the profile makes anyway is left out, and so is a candidate that is then equal to
    another. Networks without the activation or the block that an edit replaces are told apart
    later, when they are built (`edgekd.search.predict`).
    """
    found: dict[Candidate, None] = {}
    edits = [_beside(profile, choice) for choice in _choices(space.edits)]
    for named, edit, pruned, px, number_format in itertools.product(
        space.students, dict.fromkeys(edits), space.pruned, space.input_px, space.formats
    ):
        name, weights = split_weights(named)
        weights = weights or first_weights(name)
        found[Candidate(name, px, pruned, weights, edit, number_format)] = None
    return sorted(found, key=lambda one: not trained(one))


def first_weights(student: str) -> str:
    """distil.weights of a student whose weights the user does not name.

    "" is the package of its model file; "none" where it has none, or where it is not installed.
    """
    package = model_specs.spec(student).package
    return "" if package and importlib.util.find_spec(package) else RANDOM


def trained(candidate: Candidate) -> bool:
    """Whether a candidate starts from trained weights."""
    return candidate.weights != RANDOM


def _choices(edits: EditChoices) -> Iterator[dict[str, str]]:
    """Every combination of edits, without those that are left to the profile."""
    names = [field.name for field in dataclasses.fields(edits)]
    for values in itertools.product(*(getattr(edits, name) for name in names)):
        yield {name: value for name, value in zip(names, values, strict=True) if value}


def _beside(profile: DeviceProfile, choice: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """The edits of a choice that the profile does not make by itself, sorted."""
    return tuple(
        sorted((name, value) for name, value in choice.items() if value != getattr(profile, name))
    )
