"""A network of timm with its classifier: NAME@FILE, NAME@hub, NAME.TAG, or hf-hub:REPO."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import nn

from edgekd.core.errors import RecipeError
from edgekd.networks import builders, timm_networks, weight_files, weight_licences
from edgekd.networks.foreign.model import Asked, Foreign
from edgekd.settings import model_specs
from edgekd.settings.model_specs import CHANNELS


def load(text: str, asked: Asked) -> Foreign:
    """The network, exactly as it was trained.

    Raises UnknownName for a name that timm does not have, RecipeError for a network without
    weights, and WeightsError for weights that cannot be had or do not fit.
    """
    name, at, weights = text.partition("@")
    spec = model_specs.spec(name)
    if not at and model_specs.split_tag(name)[1]:  # a tag names weights of the hub
        at = weights = "hub"
    if not at and not spec.package:
        raise RecipeError(
            f"{text}: a name without weights, and a network to convert has to be trained",
            f"give its weights, {name}@FILE.safetensors or {name}@hub; or train it here: edgekd "
            f"build --student {name}",
        )
    timm_networks.check_known(name, "network")
    module, origin = timm_networks.complete(spec, weights, spec.options)
    mean, std = builders.normalisation(spec, module)
    px = asked.px or spec.px or timm_networks.facts(spec.arch)[0]
    return Foreign(
        name=name,
        module=module,
        px=px,
        channels=int(spec.options.get(CHANNELS, 3)),
        origin=origin,
        digest=hashlib.sha256(weight_files.to_bytes(module.state_dict())).hexdigest(),
        mean=tuple(mean),
        std=tuple(std),
        licence=weight_licences.of_weights(spec, weights),
    )


def from_hub(text: str, asked: Asked) -> Foreign:
    """The network of a repository on the hub: "hf-hub:timm/resnet18.a1_in1k"."""
    module: nn.Module = timm_networks.from_repository(text)
    spec = model_specs.ModelSpec(name=text, title=text, arch=text, roles=model_specs.ROLES)
    mean, std = builders.normalisation(spec, module)
    config: Any = module.pretrained_cfg
    return Foreign(
        name=text.rpartition("/")[2],
        module=module,
        px=asked.px or int(config["input_size"][-1]),
        channels=int(config["input_size"][0]),
        origin=text,
        digest=hashlib.sha256(weight_files.to_bytes(module.state_dict())).hexdigest(),
        mean=tuple(mean),
        std=tuple(std),
        licence=str(config.get("license") or ""),
    )
