"""What modules compute before each training step, outside a step that is captured as a graph."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class BeforeStep(Protocol):
    """A module that computes something before each step, or begins to."""

    def before_step(self) -> None: ...


def parts(module: nn.Module) -> list[BeforeStep]:
    """The parts of a module that compute something before each step."""
    return [part for part in module.modules() if isinstance(part, BeforeStep)]
