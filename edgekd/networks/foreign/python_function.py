"""A network that a function of the user's makes: `package.module:function`."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from pathlib import Path

from torch import nn

from edgekd.core.errors import ModelFileError, RecipeError
from edgekd.networks import weight_files
from edgekd.networks.foreign.model import Asked, Foreign, no_size


def load(text: str, asked: Asked) -> Foreign:
    """The module that a function returns, which takes no argument.

    The current folder is searched first, as `python -m` does. Raises ModelFileError for a module or
    a function that does not load, and RecipeError for one that returns no nn.Module.
    """
    where, _, name = text.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(where), name)
        module = function()
    except Exception as error:  # a user's module may raise anything
        raise ModelFileError(
            f"{text}: {type(error).__name__}: {error}",
            "name a function that takes no argument, in a module that Python finds from here",
        ) from error
    finally:
        sys.path.remove(here)
    if not isinstance(module, nn.Module):
        raise RecipeError(
            f"{text}: it returns a {type(module).__name__}, expected a torch.nn.Module",
            "return the network itself, with its weights loaded",
        )
    if not asked.px:
        raise no_size(text, asked)
    state = weight_files.to_bytes(module.state_dict())
    return Foreign(
        name=name,
        module=module.eval(),
        px=asked.px,
        channels=_channels(module),
        origin=text,
        digest=hashlib.sha256(state + _source(function)).hexdigest(),
    )


def _channels(module: nn.Module) -> int:
    """The channels of the first convolution, 3 where there is none."""
    found = [layer.in_channels for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    return found[0] if found and found[0] in (1, 3) else 3


def _source(function: object) -> bytes:
    """The source of a function's module, as far as it has one."""
    try:
        return inspect.getsource(inspect.getmodule(function) or function).encode()  # type: ignore[arg-type]
    except (OSError, TypeError):
        return b""
