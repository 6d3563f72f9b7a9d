"""Float networks as training starts with them."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from edgekd.networks import timm_networks
from edgekd.settings import model_specs


@pytest.mark.parametrize("name", ["mobilenetv2_050", "resnet18"])
def test_a_fresh_classifier_starts_at_chance(name: str) -> None:
    """timm's own for 2 classes gave mobilenetv2_050 logits of tens and a first loss of 1.8."""
    torch.manual_seed(0)
    spec = model_specs.spec(name)
    net, origin = timm_networks.pretrained(spec, "none", 2, spec.options)
    net.train()  # batch statistics, as in the first step
    with torch.no_grad():
        logits = net(torch.randn(8, 3, 64, 64))
    assert origin == "random"
    assert float(F.cross_entropy(logits, torch.tensor([0, 1] * 4))) == pytest.approx(
        math.log(2), abs=0.1
    )
