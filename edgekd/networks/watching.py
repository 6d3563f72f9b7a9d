"""Reads what modules inside a network give, at each forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from edgekd.core.errors import UnknownName


@contextmanager
def watch(model: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of the named modules at each forward pass, as {name: output}.

    Raises UnknownName for a name that is no module of the network.
    """
    seen: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    handles = []
    for name in names:
        if name not in modules:
            raise _unknown_tap(model, type(model).__name__, name)

        def keep(_module: nn.Module, _inputs: Any, output: Tensor, name: str = name) -> None:
            seen[name] = output

        handles.append(modules[name].register_forward_hook(keep))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _unknown_tap(model: nn.Module, arch: str, tap: str) -> UnknownName:
    """The error for a tap that is no module of the network."""
    return UnknownName(
        f"tap of {arch}",
        tap,
        [name for name, _ in model.named_modules() if name],
        f"correct taps in models/{arch}.toml",
    )
