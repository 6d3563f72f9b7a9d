"""The outputs of a network that a user brings: which one is its answers, and which others it gives.

A network may return a tensor, a tuple, a list or a dictionary, nested or not. The answers are its
classification output, [n, classes]: accuracy, agreement and the labels speak of it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.core.errors import RecipeError, UnsupportedNetwork
from edgekd.networks import further_outputs
from edgekd.networks.foreign.model import Foreign, Options

# Names that exporters and libraries give the classification output, the surest first.
USUAL = ("logits", "scores", "probabilities", "probs", "class_logits", "cls_logits")
# Of an output of a network without names for them.
UNNAMED = "output_{}"
# Names that the file has already.
TAKEN = frozenset({"input", "output"})
ALONE = "give a network whose forward gives logits alone"


class UnclearAnswers(RecipeError):
    """Several outputs of a network could be its answers.

    `possible`: {name: number of classes that it would have} of these. `names`: of all outputs.
    """

    def __init__(
        self, what: str, next_step: str, possible: dict[str, int], names: list[str]
    ) -> None:
        super().__init__(what, next_step)
        self.possible = possible
        self.names = names

    def outputs_for(self, classes: int) -> tuple[str, ...]:
        """All outputs, that for so many classes first. Raises itself unless there is just one."""
        fitting = [name for name, count in self.possible.items() if count == classes]
        if len(fitting) != 1:
            raise self
        return (*fitting, *(name for name in self.names if name != fitting[0]))


def named(answer: Any, names: Sequence[str] = ()) -> dict[str, Tensor]:
    """{name: tensor} of all that a network returned, in its order.

    `names`: of the outputs in their order, where the model's file has them. Parts that are no
    tensor, such as None, are left out.
    """
    found = {name: part for name, part in _flat(answer, "") if isinstance(part, Tensor)}
    if len(names) == len(found):
        found = dict(zip(map(plain, names), found.values(), strict=True))
    return found


def plain(name: str) -> str:
    """A name as the file has it: letters, digits, dots and dashes, and none of the file's own."""
    short = re.sub(r"[^\w.\-]+", "_", name).strip("_") or "_"
    return f"{short}_" if short in TAKEN else short


def _flat(value: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        rows = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        rows = list(zip(value._fields, value, strict=True))
    elif isinstance(value, (list, tuple)):
        rows = [(str(number), part) for number, part in enumerate(value)]
    else:
        return [(plain(path) if path else UNNAMED.format(0), value)]
    found: list[tuple[str, Any]] = []
    for key, part in rows:
        inner = UNNAMED.format(key) if key.isdigit() and not path else key
        found += _flat(part, f"{path}.{inner}" if path else inner)
    return found


def with_answers_alone(found: Foreign, wanted: Sequence[str], options: Options) -> Foreign:
    """The network, whose module returns its answers alone and marks its further outputs.

    `wanted`: names of outputs, the answers first, or empty for all. A network with one output stays
    as it is. Raises RecipeError where the answers are not clear, or a name is unknown, and
    UnsupportedNetwork for an output that has no int8 form.
    """
    try:
        with torch.inference_mode():
            answer = found.module(torch.zeros(1, found.channels, found.px, found.px))
    except Exception:  # recording it says what is wrong
        return found
    given = named(answer, found.outputs)
    if isinstance(answer, Tensor) or (len(given) == 1 and not wanted):
        _check_names(found, given, wanted, options)
        return found if isinstance(answer, Tensor) else _hooked(found, [*given])
    _check_names(found, given, wanted, options)
    chosen = list(wanted) or _chosen(found, given, options)
    _check_forms(found, {name: given[name] for name in chosen}, options)
    return _hooked(found, chosen)


def _check_names(
    found: Foreign, given: Mapping[str, Tensor], wanted: Sequence[str], options: Options
) -> None:
    """Raise RecipeError for a name that the network has not, or that stands twice."""
    for number, name in enumerate(wanted):
        if name not in given or name in wanted[:number]:
            what = "has no such output" if name not in given else "stands there twice"
            raise RecipeError(
                f"{options.outputs.format(','.join(wanted))}: {name!r} {what}; {found.name} gives "
                f"{_told(given)}",
                f"for example {_option(given, options)}",
            )


def _chosen(found: Foreign, given: Mapping[str, Tensor], options: Options) -> list[str]:
    """All outputs, the answers first. Raises UnclearAnswers where several could be the answers."""
    possible = [name for name, part in given.items() if part.ndim == 2 and part.shape[1] > 1]
    fitting = [name for name in possible if given[name].shape[1] == len(found.classes)]
    possible = fitting or possible
    usual = [name for word in USUAL for name in possible if name.lower() == word]
    if len(possible) == 1 or usual:
        answers = (usual or possible)[0]
        return [answers, *(name for name in given if name != answers)]
    if not possible:
        raise UnsupportedNetwork(
            f"{found.name} gives {_told(given)}; logits [1, classes] of two or more classes are "
            "expected among them",
            "give a classifier: for another network, export its part up to the logits",
        )
    names = [*possible, *(name for name in given if name not in possible)]
    raise UnclearAnswers(
        f"{found.name} gives {_told(given)}, and {len(possible)} of them could be its answers",
        f"name the answers first, for example {_option(names, options)}; an output that is not "
        "named there is left out of the file"
        if options.outputs
        else ALONE,
        {name: given[name].shape[1] for name in possible},
        [*given],
    )


def _option(names: Iterable[str], options: Options) -> str:
    """The option that asks for these outputs."""
    return options.outputs.format(",".join(names)) or ALONE


def _check_forms(found: Foreign, kept: Mapping[str, Tensor], options: Options) -> None:
    """Raise UnsupportedNetwork for an output that is no tensor of real numbers for one image, and
    for one that stands there twice.
    """
    held: dict[int, str] = {}
    for name, part in kept.items():
        good = [one for one, other in kept.items() if other.is_floating_point()]
        if not part.is_floating_point() or part.ndim < 2 or part.shape[0] != 1:
            raise UnsupportedNetwork(
                f"{found.name}: the output {name!r} is {str(part.dtype).removeprefix('torch.')} "
                f"{list(part.shape)}; real numbers with the image's number in front are expected",
                f"leave it out: {_option(good, options)}",
            )
        if id(part) in held:
            raise UnsupportedNetwork(
                f"{found.name}: the outputs {held[id(part)]!r} and {name!r} are the same tensor",
                f"leave one out: {_option((one for one in kept if one != name), options)}",
            )
        held[id(part)] = name


def _told(given: Mapping[str, Tensor]) -> str:
    """The outputs with their shapes, for messages."""
    return ", ".join(f"{name} {list(part.shape)}" for name, part in given.items())


def _hooked(found: Foreign, chosen: Sequence[str]) -> Foreign:
    """The network, whose module returns the first of these outputs and marks the others."""
    answers, *others = chosen

    def alone(_module: nn.Module, _images: object, answer: Any) -> Tensor:
        given = named(answer, found.outputs)
        for name in others:
            further_outputs.mark(given[name], name)
        return given[answers]

    found.module.register_forward_hook(alone)
    return dataclasses.replace(found, outputs=tuple(chosen))
