"""A network of torchvision: `torchvision:NAME`, `torchvision:NAME@WEIGHTS`, or NAME@FILE."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import torchvision
from torch import nn

from edgekd.core import files
from edgekd.core.errors import UnknownName, WeightsError
from edgekd.networks import weight_files
from edgekd.networks.foreign.model import Asked, Foreign
from edgekd.networks.weight_files import State, read_weights

PREFIX = "torchvision:"
LICENCE = "BSD-3-Clause (torchvision)"
NATIVE_PX = 224  # torchvision's classifiers are trained at this size unless their weights say more


def load(text: str, asked: Asked) -> Foreign:
    """The network, with weights that torchvision downloads, weights of a file, or random ones.

    Raises UnknownName for a name that torchvision does not have, and WeightsError.
    """
    name, _, weights = text.removeprefix(PREFIX).partition("@")
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UnknownName("torchvision network", name, known, "torchvision.models lists them")
    found: Any = _published(name, weights)
    if found is not None:
        return _with_published(name, found, asked)
    module = torchvision.models.get_model(name, weights=None)
    origin = "random"
    if weights:
        path = Path(weights)
        state = read_weights(path)
        module = torchvision.models.get_model(name, weights=None, num_classes=_outputs(state))
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()[:160]
            raise WeightsError(
                f"{path.name} does not fit torchvision's {name}: {reason}",
                "name the network that the weights belong to",
            ) from None
        origin = path.name
    return _foreign(name, module, origin, asked)


def _outputs(state: State) -> int:
    """The number of the classifier's outputs: the rows of the last weight."""
    rows = [int(value.shape[0]) for key, value in state.items() if key.endswith("weight")]
    return rows[-1] if rows else 1000


def _published(name: str, weights: str) -> Any:
    """The entry of torchvision for its own weights; None for a file and for no weights."""
    if not weights or files.exists(Path(weights), "the weights"):
        return None
    entries = torchvision.models.get_model_weights(name)
    names = [*entries.__members__, "DEFAULT"]
    if weights not in names:
        raise UnknownName(
            f"weights of torchvision's {name}:",
            weights,
            names,
            f"one of {', '.join(names)}, or a file that exists",
        )
    return entries[weights] if weights != "DEFAULT" else entries.DEFAULT


def _with_published(name: str, entry: Any, asked: Asked) -> Foreign:
    try:
        module = torchvision.models.get_model(name, weights=entry)
    except Exception as error:  # a download may fail in many ways
        raise WeightsError(
            f"torchvision:{name}@{entry.name} could not be fetched ({type(error).__name__})",
            f"connect this machine, or give a file: torchvision:{name}@FILE.pth",
        ) from None
    shown = entry.transforms()
    found = _foreign(name, module, entry.name, asked, int(shown.crop_size[0]))
    return dataclasses.replace(
        found,
        mean=tuple(shown.mean),
        std=tuple(shown.std),
        classes=tuple(entry.meta["categories"]),
    )


def _foreign(
    name: str, module: nn.Module, origin: str, asked: Asked, px: int = NATIVE_PX
) -> Foreign:
    state = weight_files.to_bytes(module.state_dict())
    return Foreign(
        name=name,
        module=module.eval(),
        px=asked.px or px,
        channels=3,
        origin=origin,
        digest=f"torchvision {torchvision.__version__} {name} {hashlib.sha256(state).hexdigest()}",
        licence=LICENCE,
    )
