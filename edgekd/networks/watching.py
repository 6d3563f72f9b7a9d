"""Reads what modules inside a network give, at each forward pass."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from edgekd.core.errors import UnknownName


@contextmanager
def watch(model: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of the named modules at each forward pass, as {name: output}.

    Maps are [n, channels, height, width]: see `channels_first`. Raises UnknownName for a name that
    is no module of the network. Forward passes of other threads are not recorded.
    """
    own = threading.get_ident()
    seen: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    channels = _channels(model)
    handles = []
    for name in names:
        if name not in modules:
            raise _unknown_tap(model, type(model).__name__, name)

        def keep(_module: nn.Module, _inputs: Any, output: Tensor, name: str = name) -> None:
            if threading.get_ident() == own:
                seen[name] = channels_first(model, output, channels.get(name))

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


def channels_first(model: nn.Module, output: Tensor, channels: int | None = None) -> Tensor:
    """A map of `model` as [n, channels, height, width], also where the network keeps it as NHWC
    (Swin, MambaOut). Other outputs stay as they are.

    The number of `channels` tells which axis is theirs, where only one axis is as long; else what
    the network says of itself (timm's `output_fmt`).
    """
    if not isinstance(output, Tensor) or output.ndim != 4:
        return output
    last = str(getattr(model, "output_fmt", "NCHW")) == "NHWC"
    if channels is not None and (output.shape[1] == channels) != (output.shape[3] == channels):
        last = output.shape[3] == channels
    return output.permute(0, 3, 1, 2) if last else output


def _channels(model: nn.Module) -> dict[str, int]:
    """{module: its channels} by timm's feature table."""
    table = getattr(model, "feature_info", None)
    rows = table if isinstance(table, list) else table.get_dicts() if table is not None else []
    return {row["module"]: int(row["num_chs"]) for row in rows if "num_chs" in row}
