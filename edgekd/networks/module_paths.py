"""Dotted paths of parameters and buffers in a module, such as "blocks.0.conv.weight"."""

from __future__ import annotations

from torch import Tensor, nn


def place(root: nn.Module, path: str, value: Tensor) -> None:
    """Register a parameter or buffer at a dotted path; modules on the way are made."""
    *parents, name = path.split(".")
    module = root
    for parent in parents:
        if not hasattr(module, parent):
            module.add_module(parent, nn.Module())
        module = getattr(module, parent)
    if isinstance(value, nn.Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)
