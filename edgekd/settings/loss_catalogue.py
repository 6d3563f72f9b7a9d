"""Every distillation loss by name: its paper, its parameters, what it asks of the teacher, where it is undefined.

The recipe's table [distil.losses] names what is added to the labels' loss and to plain KD (distil.alpha):

    [distil.losses]
    dist = 1.0                                # NAME = weight
    dkd = {weight = 1.0, beta = 2, ramp = 0}  # or with parameters, and the share of the steps over which it grows

Standard library only: recipes are checked before torch is imported. `terms` builds what is named here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from edgekd.core.artifacts import Labels
from edgekd.core.errors import RecipeError, UnknownName


@dataclasses.dataclass(frozen=True)
class Method:
    """One loss, and where it holds.

    `weight`: what a line without one takes, the published one where there is one. `needs`: which of the teacher's answers
    it reads, "logits", "pooled", "grid" or "cams"; empty for a loss that needs no teacher. `grows`: whether it is ramped by
    `distil.ramp` when it names no ramp of its own (feature losses are: an adapter that has learned nothing yet only
    disturbs). `not_two` and `not_many` say why it is refused for 2 classes and for several labels an image; empty: it works.
    """

    title: str
    paper: str
    weight: float
    needs: tuple[str, ...] = ("logits",)
    parameters: Mapping[str, float] = dataclasses.field(default_factory=dict)
    grows: bool = False
    not_two: str = ""
    not_many: str = ""
    instead: str = "plain KD, distil.alpha"


_SOFTMAX = "it is defined on one softmax over the classes"
_MANY = "per_label"

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "kd_standardised": Method(
            "KD on standardised logits",
            "Sun et al. 2024, arXiv 2403.01427",
            9.0,
            parameters={"temperature": 2.0},
            not_two="two standardised logits are always (+c, -c), which keeps only the sign",
            not_many=_SOFTMAX,
        ),
        "per_label": Method(
            "KD a label, through sigmoids",
            "Yang et al. 2023, arXiv 2308.06453 (multi-label logit distillation)",
            10.0,
            parameters={"temperature": 1.0},
        ),
        "dkd": Method(
            "decoupled KD",
            "Zhao et al. 2022, arXiv 2203.08679",
            1.0,
            parameters={"alpha": 1.0, "beta": 8.0, "temperature": 4.0},
            not_two="with 2 classes one class is left beside the target, so its non-target part is always 0",
            not_many=_SOFTMAX,
        ),
        "nkd": Method(
            "normalised KD",
            "Yang et al. 2023, arXiv 2303.13005",
            1.0,
            parameters={"gamma": 1.5, "temperature": 1.0},
            not_two="with 2 classes one class is left beside the target, so its non-target part is always 0",
            not_many=_SOFTMAX,
        ),
        "dist": Method(
            "correlation of rows and of columns",
            "Huang et al. 2022, arXiv 2205.10536",
            2.0,
            parameters={"beta": 1.0, "gamma": 1.0, "temperature": 4.0},
            not_two="the correlation of two rows of 2 probabilities is always +1 or -1",
            not_many=_SOFTMAX,
            instead="dist_batch, which keeps the part over the batch",
        ),
        "dist_batch": Method(
            "correlation of columns: each class over the batch",
            "Huang et al. 2022, arXiv 2205.10536, its intra-class term",
            2.0,
            parameters={"temperature": 4.0},
        ),
        "rank": Method(
            "the teacher's order of pairs in the batch, for AUC",
            "RankNet (Burges et al. 2005) with the teacher's odds as its target",
            1.0,
            parameters={"temperature": 2.0},
        ),
        "srd": Method(
            "projector with batch norm, log of a high power",
            "Miles and Mikolajczyk 2023, arXiv 2303.11098",
            2.0,
            needs=("pooled",),
            parameters={"power": 4.0},
            grows=True,
        ),
        "pefd": Method(
            "ensemble of projectors, cosine",
            "Chen et al. 2022, arXiv 2210.15274",
            25.0,
            needs=("pooled",),
            parameters={"projectors": 3.0},
            grows=True,
        ),
        "infonce": Method(
            "contrast of pooled features in the batch",
            "van den Oord et al. 2018, arXiv 1807.03748",
            0.8,
            needs=("pooled",),
            parameters={"temperature": 0.07, "width": 128.0},
            grows=True,
        ),
        "hcl": Method(
            "grid-aligned features at several scales",
            "Chen et al. 2021, arXiv 2104.09044 (hierarchical context loss)",
            1.0,
            needs=("grid",),
            grows=True,
        ),
        # The published 1000 multiplies a mean over the 8 x 8 places of CIFAR's last map; ours is the sum over places.
        "attention": Method(
            "attention transfer",
            "Zagoruyko and Komodakis 2017, arXiv 1612.03928",
            1000.0 / 64,
            needs=("grid",),
            grows=True,
        ),
        "rkd": Method(
            "distances and angles between images",
            "Park et al. 2019, arXiv 1904.05068",
            25.0,
            needs=("pooled",),
            parameters={"distance": 1.0, "angle": 2.0},
            grows=True,
        ),
        "sp": Method(
            "similarities between images",
            "Tung and Mori 2019, arXiv 1907.09682",
            3000.0,
            needs=("pooled",),
            grows=True,
        ),
        "cat": Method(
            "class activation maps",
            "Guo et al. 2023, CVPR, Class Attention Transfer",
            400.0,
            needs=("cams",),
            parameters={"side": 2.0},
            grows=True,
        ),
        "e2kd": Method(
            "the explanation of the teacher's answer",
            "Parchami-Araghi et al. 2024, arXiv 2402.03119",
            5.0,
            needs=("logits", "cams"),
            grows=True,
            not_many="it explains the one class that the teacher answers",
            instead="cat, which compares the map of each label",
        ),
        "self_exits": Method(
            "self-distillation through early exits",
            "Zhang et al. 2019, arXiv 1905.08094 (Be Your Own Teacher)",
            1.0,
            needs=(),
            parameters={"share": 0.3, "temperature": 3.0, "hint": 0.03},
        ),
        "mutual": Method(
            "a second student learns beside it, and each teaches the other",
            "Zhang et al. 2018, arXiv 1706.00384",
            1.0,
            needs=(),
            parameters={"temperature": 1.0},
        ),
        "robust": Method(
            "adversarial views, labelled by the teacher",
            "Zi et al. 2021, arXiv 2108.07969 (RSLAD)",
            5.0,
            parameters={"epsilon": 8 / 255, "steps": 3.0, "temperature": 1.0},
            not_many=_SOFTMAX,
            instead="per_label, which is not adversarial",
        ),
        "fair": Method(
            "the same features in every group",
            "Jung et al. 2021, arXiv 2106.04411 (MFD)",
            5.0,
            needs=("pooled",),
            grows=True,
            not_many="its groups are compared within one class",
        ),
    }
)

# The losses with a key of their own in [distil].
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

# Lowest and highest value of a parameter that can mean anything; others are 0 .. infinity.
BOUNDS = {
    "temperature": (0.01, 100.0),
    "power": (1.0, 16.0),
    "projectors": (1.0, 16.0),
    "width": (2.0, 4096.0),
    "side": (1.0, 32.0),
    "share": (0.0, 1.0),
    "epsilon": (0.0, 0.5),
    "steps": (1.0, 100.0),
    "ramp": (0.0, 1.0),
}
WHOLE = {"projectors", "width", "side", "steps"}


@dataclasses.dataclass(frozen=True)
class Term:
    """One line of [distil.losses]: a method with its weight, its ramp (None: the method's own habit) and parameters."""

    name: str
    weight: float
    ramp: float | None = None
    parameters: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def method(self) -> Method:
        """What this term is."""
        return METHODS[self.name]


def read(values: Mapping[str, Any], where: str) -> tuple[Term, ...]:
    """The terms of a table {NAME: weight, or {"weight", "ramp", parameter: value}}, in the catalogue's order.

    A weight of 0 turns a loss off; a table without a weight takes the published one. Raises UnknownName or RecipeError
    naming the key.
    """
    found = {}
    for name, value in values.items():
        key = f"distil.losses.{name}"
        if name in OWN_KEY:
            raise RecipeError(
                f"{where}: {key}: this loss has a key of its own", f"set {OWN_KEY[name]}"
            )
        if name not in METHODS:
            raise UnknownName("loss", name, METHODS, f"losses: {', '.join(METHODS)} (in {where})")
        method, given = (
            METHODS[name],
            dict(value) if isinstance(value, Mapping) else {"weight": value},
        )
        known = {"weight": method.weight, **method.parameters}
        for option in given:
            if option not in known and option != "ramp":
                raise UnknownName(
                    "recipe key",
                    f"{key}.{option}",
                    [f"{key}.{k}" for k in (*known, "ramp")],
                    f"keys of {key}: {', '.join((*known, 'ramp'))} (in {where})",
                )
        numbers = {
            **known,
            **{option: _number(f"{key}.{option}", one, where) for option, one in given.items()},
        }
        weight, ramp = numbers.pop("weight"), numbers.pop("ramp", None)
        if weight:
            found[name] = Term(name, weight, ramp, numbers)
    return tuple(found[name] for name in METHODS if name in found)


def _number(key: str, value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecipeError(
            f"{where}: {key} is {value!r}, expected a number", f"--set {key}=VALUE sets it"
        )
    name = key.rpartition(".")[2]
    low, high = BOUNDS.get(name, (0.0, math.inf))
    if not low <= value <= high:
        raise RecipeError(f"{where}: {key} is {value}, expected {low:g} .. {high:g}")
    if name in WHOLE and value != int(value):
        raise RecipeError(f"{where}: {key} is {value}, expected a whole number")
    return float(value)


def plain(terms: Iterable[Term]) -> dict[str, dict[str, float]]:
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
    """Raise RecipeError for a loss that is undefined, or harmful, for this many classes or several labels an image."""
    for term in terms:
        method = term.method
        if labels == "many":
            if method.not_many:
                instead = _MANY if method.instead == Method.instead else method.instead
                raise RecipeError(
                    f"distil.losses.{term.name} is not defined for several labels an image: {method.not_many}",
                    f"use {instead}",
                )
        elif classes <= 2 and method.not_two:
            raise RecipeError(
                f"distil.losses.{term.name} is not defined for 2 classes: {method.not_two}",
                f"use {method.instead}",
            )


def needs(terms: Iterable[Term]) -> set[str]:
    """Which of the teacher's answers these losses read."""
    return {part for term in terms for part in term.method.needs}
