"""What EdgeKD must know of the loss and of the student before torch is imported."""

from __future__ import annotations

from edgekd.settings.loss_methods import Method, Parameter
from edgekd.settings.model_specs import ModelSpec

LOGIT_L1 = Method(
    title="mean absolute difference of the logits",
    paper="an example",
    weight=0.5,
    needs=("logits",),
    parameters={"scale": Parameter(1.0, "factor on the teacher's logits", 0.1, 10.0)},
    function="edgekd_plugin_example.losses:logit_l1",
)

MOBILENETV2_020 = ModelSpec(
    name="mobilenetv2_020",
    title="MobileNetV2 x 0.20",
    arch="mobilenetv2_020",
    roles=("student",),
    taps=("blocks.2", "blocks.4", "blocks.6"),
    licence="Apache-2.0 (timm)",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    px=224,
    patch=1,
    module="edgekd_plugin_example.networks",
)
