"""Edits of a float student that a device profile asks for, made before any training: what cannot map is not trained.

    hard_swish      "relu6": every hard-swish becomes ReLU6, which fuses into the layer before it (the Edge TPU has no
                    HARD_SWISH, and XNNPACK runs none in int8)
    squeeze_excite  "remove": the block's gate is dropped; "hard_gate": its sigmoid becomes a hard-sigmoid, which costs no
                    op of its own in int8 (`edgekd.quantization.rewrites`), where LOGISTIC does

An edit is part of the builder's options (key "edits"), so that every stage builds the same network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from edgekd.core.errors import RecipeError

KEY = "edits"  # of a builder's options
CHOICES: dict[str, tuple[str, ...]] = {
    "hard_swish": ("keep", "relu6"),
    "squeeze_excite": ("keep", "remove", "hard_gate"),
}
# Class names: timm has a hard-swish of its own beside torch's, and three families of squeeze-excite that take a map and
# give a map of the same shape.
HARD_SWISHES = frozenset({"Hardswish", "HardSwish", "HardSwishMe"})
SQUEEZE_EXCITES = frozenset({"SqueezeExcite", "SEModule", "SqueezeExciteCl", "EffectiveSEModule"})
SIGMOIDS = frozenset({"Sigmoid"})


def apply(model: nn.Module, edits: Mapping[str, str]) -> nn.Module:
    """Make the edits in `model` itself and give it back. Raises RecipeError for an edit that is not one of `CHOICES`."""
    for name, value in edits.items():
        if value not in CHOICES.get(name, ()):
            raise RecipeError(
                f"edit {name} = {value!r} of the student is unknown",
                "known: "
                + "; ".join(f"{key} = {' or '.join(each)}" for key, each in CHOICES.items()),
            )
    if edits.get("squeeze_excite") == "remove":
        _replace(model, SQUEEZE_EXCITES, nn.Identity)
    if edits.get("squeeze_excite") == "hard_gate":
        for block in model.modules():
            if type(block).__name__ in SQUEEZE_EXCITES:
                _replace(block, SIGMOIDS, nn.Hardsigmoid)
    if edits.get("hard_swish") == "relu6":
        _replace(model, HARD_SWISHES, nn.ReLU6)
    return model


def _replace(model: nn.Module, names: frozenset[str], make: Callable[[], nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ in names:
                setattr(parent, name, make())
