"""What a float student says about itself at every input size and width."""

from __future__ import annotations

import dataclasses

import torch

from edgekd.core.errors import UnsupportedNetwork
from edgekd.networks import builders, channel_groups, read_modules, student_edits
from edgekd.networks.pruning_plan import Group, Layer
from edgekd.settings.loss_reading import Place
from edgekd.settings.model_specs import CHANNELS, ModelSpec

# The end of the names of timm's layers that pad as TensorFlow does, by the size of their input:
# Conv2dSame, MaxPool2dSame, AvgPool2dSame and others.
SAME = "Same"


@dataclasses.dataclass(frozen=True)
class FloatFacts:
    """`padded_same`: the layers whose border follows the size of their input.

    `groups`, `layers`: the channels that pruning can take, without scores; empty where pruning
    cannot trace the network, and `untraced` says why.
    """

    padded_same: tuple[str, ...]
    groups: tuple[Group, ...] = ()
    layers: tuple[Layer, ...] = ()
    untraced: str = ""


def editable(spec: ModelSpec) -> list[str]:
    """The edits of `student_edits` for which an unedited student has something to change."""
    with torch.random.fork_rng(devices=[]):
        net = builders.create(spec.arch, {**spec.options, "num_classes": 2})
    return student_edits.places(net)


def facts_of(spec: ModelSpec, px: int, classes: int, reads: tuple[Place, ...]) -> FloatFacts:
    """The facts of a student with random weights. `reads`: the places whose channels stay whole."""
    with torch.random.fork_rng(devices=[]):
        net = builders.create(spec.arch, {**spec.options, "num_classes": classes})
    same = tuple(
        name for name, module in net.named_modules() if type(module).__name__.endswith(SAME)
    )
    try:
        keep = read_modules.why_whole(spec, net, reads)
        found = channel_groups.survey(net, px, spec.options.get(CHANNELS, 3), "magnitude", keep)
    except UnsupportedNetwork as error:
        return FloatFacts(same, untraced=str(error))
    groups = tuple(dataclasses.replace(group, scores=()) for group in found.groups)
    return FloatFacts(same, groups, found.layers)
