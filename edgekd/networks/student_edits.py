"""Edits of a float student that a device profile asks for, so that it trains what the device runs.

* hard_swish = "relu6" replaces every hard-swish by ReLU6, which fuses into the layer before it. The
  Edge TPU has no HARD_SWISH, and XNNPACK does not run it in int8.
* gelu = "relu6" replaces every GELU, which the Edge TPU and NNAPI do not have, in the same way.
* squeeze_excite = "remove" removes the gate of each squeeze-excite block. "hard_gate" replaces its
  sigmoid by a hard-sigmoid, which needs no operator of its own in int8
  (`edgekd.quantization.rewrites`), unlike LOGISTIC.

Edits are part of the builder's options (key "edits"), so that every stage builds the same network:

    builders.create("mobilenetv3_small_050", {"edits": {"hard_swish": "relu6"}})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from edgekd.core.errors import RecipeError

# The key of the edits in a builder's options.
KEY = "edits"
CHOICES: dict[str, tuple[str, ...]] = {
    "hard_swish": ("keep", "relu6"),
    "squeeze_excite": ("keep", "remove", "hard_gate"),
    "gelu": ("keep", "relu6"),
}
# Names of classes. timm has a hard-swish of its own beside torch's, and several kinds of
# squeeze-excite, which return a map of the shape they are given.
HARD_SWISHES = frozenset({"Hardswish", "HardSwish", "HardSwishMe"})
SQUEEZE_EXCITES = frozenset({"SqueezeExcite", "SEModule", "SqueezeExciteCl", "EffectiveSEModule"})
GELUS = frozenset({"GELU", "GELUTanh", "QuickGELU"})
SIGMOIDS = frozenset({"Sigmoid"})


def apply(model: nn.Module, edits: Mapping[str, str]) -> nn.Module:
    """Edit `model` in place and return it. Raises RecipeError for an unknown edit."""
    for name, value in edits.items():
        if value not in CHOICES.get(name, ()):
            raise RecipeError(
                f"unknown edit of the student: {name} = {value!r}",
                "known edits: "
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
    if edits.get("gelu") == "relu6":
        _replace(model, GELUS, nn.ReLU6)
    return model


def places(model: nn.Module) -> list[str]:
    """The edits for which `model` has something to change."""
    found = {type(module).__name__ for module in model.modules()}
    kinds = {"hard_swish": HARD_SWISHES, "squeeze_excite": SQUEEZE_EXCITES, "gelu": GELUS}
    return [edit for edit, names in kinds.items() if found & names]


def _replace(model: nn.Module, names: frozenset[str], make: Callable[[], nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ in names:
                setattr(parent, name, make())
