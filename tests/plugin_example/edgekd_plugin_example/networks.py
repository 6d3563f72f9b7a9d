"""The student's network. Importing this module registers it with timm."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models.efficientnet import EfficientNet, _cfg, _gen_mobilenet_v2

default_cfgs = generate_default_cfgs({"mobilenetv2_020.untrained": _cfg()})


@register_model
def mobilenetv2_020(pretrained: bool = False, **options: Any) -> EfficientNet:
    """MobileNetV2 with a fifth of the channels."""
    return _gen_mobilenet_v2("mobilenetv2_020", 0.2, pretrained=pretrained, **options)
