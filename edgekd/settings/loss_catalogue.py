"""Reads and checks the recipe's table [distil.losses].

The table adds losses to the loss on the labels and to plain KD:

    [distil.losses]
    dist = 1.0                                # NAME = weight
    dkd = {weight = 1.0, beta = 2, ramp = 0}  # or with parameters

`ramp` is the share of the steps over which the weight grows from 0.

`loss_methods` lists the losses of EdgeKD; installed packages can add more (entry point
"edgekd.losses"). Recipes are checked before torch is imported: `edgekd.training.loss_modules` has
the code of the losses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from edgekd.core import plugins
from edgekd.core.artifacts import Labels
from edgekd.core.errors import PluginError, RecipeError, UnknownName
from edgekd.settings.loss_methods import METHODS, Method, Parameter
from edgekd.settings.setting_types import Toml, spoken

__all__ = ["METHODS", "OWN_KEY", "Method", "Parameter", "Term", "check", "needs", "plain", "read"]

GROUP: plugins.Group = "edgekd.losses"

# The losses that have a key of their own in [distil].
OWN_KEY = {
    "labels": "distil.alpha",
    "kd": "distil.alpha",
    "vkd": "distil.pooled",
    "pooled": "distil.pooled",
    "fitnet": "distil.grid",
    "grid": "distil.grid",
    "ofa": "distil.exits",
    "exits": "distil.exits",
}

WEIGHT = Parameter(0.0, "weight of the loss; 0 turns it off")
RAMP = Parameter(0.0, "share of the steps over which the weight grows", 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Term:
    """One line of [distil.losses]: a loss with its weight, its ramp and its parameters.

    `ramp`: None means what `Method.grows` says.
    `provider`: the package that adds the loss, "" for EdgeKD's own. It is part of the keys of the
    stages that use it.
    """

    name: str
    weight: float
    ramp: float | None = None
    parameters: Mapping[str, float] = dataclasses.field(default_factory=dict)
    provider: str = ""

    @property
    def method(self) -> Method:
        """The loss itself."""
        return method(self.name)


def method(name: str) -> Method:
    """A loss by its name. Raises UnknownName, or PluginError for a package that does not load."""
    if name in METHODS:
        return METHODS[name]
    plugin = plugins.find(GROUP, name)
    if plugin is None:
        known = [*METHODS, *plugins.installed(GROUP)]
        raise UnknownName("loss in distil.losses:", name, known, f"losses: {', '.join(known)}")
    found = plugin.load()
    if not isinstance(found, Method) or not found.function:
        raise PluginError(
            f"{GROUP} {name!r} of the package {plugin.package} is not a loss: {plugin.target} must "
            "be an edgekd.settings.loss_methods.Method with a function",
            f"correct {plugin.target}, or remove the package: pip uninstall {plugin.distribution}",
        )
    return found


def read(values: Mapping[str, Toml], where: str) -> tuple[Term, ...]:
    """The terms of a table {NAME: weight, or {"weight", "ramp", parameter: value}}.

    EdgeKD's own losses come first, in the order of METHODS. A weight of 0 turns a loss off; a
    table without a weight takes the default one. Raises UnknownName or RecipeError that names the
    key, and PluginError.
    """
    found = {}
    for name, value in values.items():
        key = f"distil.losses.{name}"
        if name in OWN_KEY:
            raise RecipeError(
                f"{where}: {key}: this loss has a key of its own", f"set {OWN_KEY[name]}"
            )
        term = _term(key, name, value if isinstance(value, dict) else {"weight": value}, where)
        if term.weight:
            found[name] = term
    order = [*METHODS, *(name for name in found if name not in METHODS)]
    return tuple(found[name] for name in order if name in found)


def _term(key: str, name: str, given: Mapping[str, Toml], where: str) -> Term:
    loss = method(name)
    known = {"weight": WEIGHT, **loss.parameters, "ramp": RAMP}
    for option in given:
        if option not in known:
            raise UnknownName(
                "recipe key",
                f"{key}.{option}",
                [f"{key}.{k}" for k in known],
                f"keys of {key}: {', '.join(known)} (in {where})",
            )
    numbers = {
        option: _number(f"{key}.{option}", one, known[option], where)
        for option, one in given.items()
    }
    plugin = None if name in METHODS else plugins.find(GROUP, name)
    return Term(
        name,
        numbers.pop("weight", loss.weight),
        numbers.pop("ramp", None),
        {**loss.defaults, **numbers},
        plugin.identity if plugin else "",
    )


def _number(key: str, value: Toml, parameter: Parameter, where: str) -> float:
    expected = (
        f"a {'whole ' if parameter.whole else ''}number from {parameter.low:g} to "
        f"{parameter.high:,.12g}"
    )
    # NaN is not between the bounds, either.
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not parameter.low <= value <= parameter.high
        or (parameter.whole and value != int(value))
    ):
        raise RecipeError(
            f"{where}: {key} is {spoken(value)}, expected {expected}", f"--set {key}=VALUE sets it"
        )
    return float(value)


def plain(terms: Iterable[Term]) -> dict[str, Toml]:
    """The table that `read` turns into these terms."""
    return {
        term.name: {
            "weight": term.weight,
            **({} if term.ramp is None else {"ramp": term.ramp}),
            **term.parameters,
        }
        for term in terms
    }


def check(terms: Iterable[Term], classes: int, labels: Labels = "one") -> None:
    """Check that losses are defined for this many classes, and for one or several labels per image.

    Raises RecipeError that says why a loss is not, and what to use instead.
    """
    for term in terms:
        loss = term.method
        if labels == "many":
            if loss.not_many:
                instead = "per_label" if loss.instead == Method.instead else loss.instead
                raise RecipeError(
                    f"distil.losses.{term.name} is not defined for several labels per image: "
                    f"{loss.not_many}",
                    f"use {instead}",
                )
        elif classes <= 2 and loss.not_two:
            raise RecipeError(
                f"distil.losses.{term.name} is not defined for 2 classes: {loss.not_two}",
                f"use {loss.instead}",
            )


def needs(terms: Iterable[Term]) -> set[str]:
    """What these losses read of the teacher: "logits", "pooled", "grid", "cams"."""
    return {part for term in terms for part in term.method.needs}
