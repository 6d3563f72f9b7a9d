"""The distillation losses of EdgeKD: paper, parameters, and where each one is undefined.

`edgekd.training.loss_modules` has the code of each loss. This file has what can be said without
torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

# What a loss can read of the teacher: class scores, pooled features, feature maps, class
# activation maps.
Answer = Literal["logits", "pooled", "grid", "cams"]


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of a loss. `default` is the published value; `low` and `high` are allowed."""

    default: float
    meaning: str
    low: float = 0.0
    high: float = 1_000_000.0
    whole: bool = False


@dataclasses.dataclass(frozen=True)
class Method:
    """One loss.

    `weight`: its weight when a recipe gives none; the published one if the paper states it.
    `needs`: what it reads of the teacher; empty for a loss that needs no teacher. `grows`: whether
    its weight grows over distil.ramp if the recipe sets no ramp for it. Feature losses grow,
    because an adapter that has learned nothing yet disturbs the student. `not_two`, `not_many`:
    why it is refused for two classes, and for several labels per image; empty if it is defined.
    `instead`: what to use where it is undefined. `function`: for a loss of another package,
    "MODULE:FUNCTION". The function is called as function(seen, batch, **parameters) with
    `loss_modules.Seen` and `batches.Batch`, and returns a scalar tensor.
    """

    title: str
    paper: str
    weight: float
    needs: tuple[Answer, ...] = ("logits",)
    parameters: Mapping[str, Parameter] = dataclasses.field(default_factory=dict)
    grows: bool = False
    not_two: str = ""
    not_many: str = ""
    instead: str = "plain KD, distil.alpha"
    function: str = ""

    @property
    def defaults(self) -> dict[str, float]:
        """The published value of each parameter."""
        return {name: parameter.default for name, parameter in self.parameters.items()}


def temperature(default: float) -> Parameter:
    """The softmax temperature of a loss."""
    return Parameter(default, "softmax temperature", 0.01, 100.0)


_SOFTMAX = "it is defined on one softmax over the classes"
_NO_OTHERS = (
    "with 2 classes one class is left beside the target, so its non-target part is always 0"
)

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "kd_standardised": Method(
            "KD on standardised logits",
            "Sun et al. 2024, arXiv 2403.01427",
            9.0,
            parameters={"temperature": temperature(2.0)},
            not_two="two standardised logits are always (+c, -c), which keeps only the sign",
            not_many=_SOFTMAX,
        ),
        "per_label": Method(
            "KD per label, through sigmoids",
            "Yang et al. 2023, arXiv 2308.06453 (multi-label logit distillation)",
            10.0,
            parameters={"temperature": temperature(1.0)},
        ),
        "dkd": Method(
            "decoupled KD",
            "Zhao et al. 2022, arXiv 2203.08679",
            1.0,
            parameters={
                "alpha": Parameter(1.0, "weight of the target class"),
                "beta": Parameter(8.0, "weight of the other classes"),
                "temperature": temperature(4.0),
            },
            not_two=_NO_OTHERS,
            not_many=_SOFTMAX,
        ),
        "nkd": Method(
            "normalised KD",
            "Yang et al. 2023, arXiv 2303.13005",
            1.0,
            parameters={
                "gamma": Parameter(1.5, "weight of the other classes"),
                "temperature": temperature(1.0),
            },
            not_two=_NO_OTHERS,
            not_many=_SOFTMAX,
        ),
        "dist": Method(
            "correlation of rows and of columns",
            "Huang et al. 2022, arXiv 2205.10536",
            2.0,
            parameters={
                "beta": Parameter(1.0, "weight of the correlation over the classes"),
                "gamma": Parameter(1.0, "weight of the correlation over the batch"),
                "temperature": temperature(4.0),
            },
            not_two="the correlation of two rows of 2 probabilities is always +1 or -1",
            not_many=_SOFTMAX,
            instead="dist_batch, which keeps the part over the batch",
        ),
        "dist_batch": Method(
            "correlation of columns: each class over the batch",
            "Huang et al. 2022, arXiv 2205.10536, its intra-class term",
            2.0,
            parameters={"temperature": temperature(4.0)},
        ),
        "rank": Method(
            "the teacher's order of pairs in the batch, for AUC",
            "RankNet (Burges et al. 2005) with the teacher's odds as its target",
            1.0,
            parameters={"temperature": temperature(2.0)},
        ),
        "srd": Method(
            "projector with batch norm, log of a high power",
            "Miles and Mikolajczyk 2023, arXiv 2303.11098",
            2.0,
            needs=("pooled",),
            parameters={"power": Parameter(4.0, "power of the difference", 1.0, 16.0)},
            grows=True,
        ),
        "pefd": Method(
            "ensemble of projectors, cosine",
            "Chen et al. 2022, arXiv 2210.15274",
            25.0,
            needs=("pooled",),
            parameters={"projectors": Parameter(3.0, "number of projectors", 1.0, 16.0, True)},
            grows=True,
        ),
        "infonce": Method(
            "contrast of pooled features in the batch",
            "van den Oord et al. 2018, arXiv 1807.03748",
            0.8,
            needs=("pooled",),
            parameters={
                "temperature": temperature(0.07),
                "width": Parameter(128.0, "width of the embedding", 2.0, 4096.0, True),
            },
            grows=True,
        ),
        # At these weights the gradients of the next three are at most 0.17 of that of KD, and
        # students come out as with KD alone (docs/measured/distillation.md).
        "cosine": Method(
            "cosine of pooled features, beside KD and labels",
            "Sanh et al. 2019, arXiv 1910.01108 (DistilBERT's triple loss)",
            1.0,
            needs=("pooled",),
            grows=True,
        ),
        "gan": Method(
            "a discriminator on pooled features, which the student fools",
            "Shen et al. 2019, arXiv 1812.02425 (MEAL), after Goodfellow et al. 2014",
            0.1,
            needs=("pooled",),
            parameters={"width": Parameter(128.0, "width of the discriminator", 1.0, 4096.0, True)},
            grows=True,
        ),
        "gram": Method(
            "Gram matrices of the channels",
            "Yim et al. 2017, CVPR (FSP), of one layer with itself",
            1.0,
            needs=("grid",),
            grows=True,
        ),
        "hcl": Method(
            "grid-aligned features at several scales",
            "Chen et al. 2021, arXiv 2104.09044 (hierarchical context loss)",
            1.0,
            needs=("grid",),
            grows=True,
        ),
        # The published 1000 multiplies a mean over the 8 x 8 places of CIFAR's last map. Here the
        # loss is the sum.
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
            parameters={
                "distance": Parameter(1.0, "weight of the distances"),
                "angle": Parameter(2.0, "weight of the angles"),
            },
            grows=True,
        ),
        "sp": Method(
            "similarities between images",
            "Tung and Mori 2019, arXiv 1907.09682",
            3000.0,
            needs=("pooled",),
            grows=True,
        ),
        # At the published 400 its gradient is 30 to 180 times as large as that of KD, and a student
        # lost 12 points. At 4 it is 0.3 to 1.8 times as large, as those of `e2kd`, `pefd`, `srd`
        # and `infonce` are at their weights (docs/measured/distillation.md).
        "cat": Method(
            "class activation maps",
            "Guo et al. 2023, CVPR, Class Attention Transfer",
            4.0,
            needs=("cams",),
            parameters={"side": Parameter(2.0, "side of the pooled map", 1.0, 32.0, True)},
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
            parameters={
                "share": Parameter(0.3, "weight of the last answer; labels get the rest", 0.0, 1.0),
                "temperature": temperature(3.0),
                "hint": Parameter(0.03, "weight of the features"),
            },
        ),
        "mutual": Method(
            "a second student learns beside it, and each teaches the other",
            "Zhang et al. 2018, arXiv 1706.00384",
            1.0,
            needs=(),
            parameters={"temperature": temperature(1.0)},
        ),
        "robust": Method(
            "adversarial views, labelled by the teacher",
            "Zi et al. 2021, arXiv 2108.07969 (RSLAD)",
            5.0,
            parameters={
                "epsilon": Parameter(8 / 255, "largest change of a pixel in 0..1", 0.0, 0.5),
                "steps": Parameter(3.0, "steps of the attack", 1.0, 100.0, True),
                "temperature": temperature(1.0),
            },
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
