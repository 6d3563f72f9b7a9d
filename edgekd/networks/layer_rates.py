"""Learning rates that fall from the classifier to the first layer, as factors of one rate.

The first layers of a pretrained network fit most tasks already, and large steps would undo them.
Layer-wise decay is of ELECTRA (Clark et al. 2020, arXiv 2003.10555), and BEiT brought it to vision
transformers (Bao et al. 2021, arXiv 2106.08254). Which parameter belongs to which layer is timm's
knowledge.
"""

from __future__ import annotations

from torch import nn

from edgekd.networks.timm_library import timm


def factors(model: nn.Module, decay: float) -> dict[str, float]:
    """The factor of each parameter's rate by its name: 1 for the classifier, `decay` for the last
    block, `decay` squared for the one before, and so on down to the first layer.

    Empty, which means one rate, for a network whose layers timm does not list.
    """
    if not hasattr(model, "group_matcher"):
        return {}
    # Numbers from 0, the first layer. timm.optim has the same, and takes 1.5 s to import.
    matcher = model.group_matcher(coarse=False)  # type: ignore[operator]
    layers: dict[str, int] = timm.models.group_parameters(model, matcher, reverse=True)
    last = max(layers.values())
    return {name: decay ** (last - layer) for name, layer in layers.items()}
