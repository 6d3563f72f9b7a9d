"""Which channels of a network belong together, what each is worth, and the cut itself.

The dependency graph, the importances and the surgery are Torch-Pruning's (Fang et al. 2023, arXiv
2301.12900); only this file imports it. `pruning_plan` decides which channels to take, because the
library's own pruner cuts while it ranks, and rounds widths without saying so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgekd.core.artifacts import Json
from edgekd.core.errors import UnsupportedNetwork
from edgekd.networks import (
    light_imports,
    low_rank,
    memory_format,
    network_size,
    watching,
    widths,
)
from edgekd.networks.pruning_plan import Group, Layer, Member, Plan, Side

with light_imports.kept_out():  # it imports torchvision
    import torch_pruning as tp
    from torch_pruning.ops import OPTYPE

# How the worth of a channel is computed. A channel's score is the mean over the layers of its
# group, divided by the mean of the group, so that groups can be compared.
IMPORTANCE: dict[str, Callable[[], Callable[[Any], Tensor | None]]] = {
    # Sum of squares of all weights that would go (arXiv 2301.12900).
    "magnitude": tp.importance.GroupMagnitudeImportance,
    # |gamma| of the batch norms (Network Slimming, arXiv 1708.06519).
    "bn_scale": tp.importance.BNScaleImportance,
    # Sum of |weight x gradient| (Molchanov et al. 2019, CVPR).
    "taylor": tp.importance.GroupTaylorImportance,
}
# Operations in a network's code that name channels by their number or by a count.
BY_PLACE = {OPTYPE.SLICE, OPTYPE.SPLIT, OPTYPE.UNBIND, OPTYPE.EXPAND}
# The module of the library's nodes for what is no layer: additions, activations, reshapes.
OWN_OPS = tp.ops.__name__
# Reasons why a group stays whole.
FIRST = "the first convolution, which every later layer depends on"
OUTPUTS = "the classes"

# A group of Torch-Pruning, a list of (dependency, indices) pairs. The library does not type it.
RawGroup = Any


@dataclasses.dataclass(frozen=True)
class Root:
    """What Torch-Pruning needs to cut a group: one of its layers and the function that cuts it."""

    layer: nn.Module
    cut: Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Survey:
    """The groups and layers of a network as plain data, with the graph and the roots for a cut."""

    groups: tuple[Group, ...]
    layers: tuple[Layer, ...]
    graph: tp.DependencyGraph
    roots: Mapping[str, Root]


# The survey of a network that loses no channels.
NOTHING = Survey((), (), tp.DependencyGraph(), {})


@dataclasses.dataclass(frozen=True)
class _Subject:
    """The network under survey. `names`: of its modules, in their order. `first`: its first layer.

    `keep`: {module: why its outputs stay whole}, or why the inputs of the classifier do.
    `kept_nodes`: the same reasons by the id of the node that makes a module's output.
    """

    model: nn.Module
    graph: tp.DependencyGraph
    names: Mapping[nn.Module, str]
    first: str
    classifier: str
    keep: Mapping[str, str]
    kept_nodes: Mapping[int, str]


def survey(
    model: nn.Module, px: int, channels: int, importance: str, keep: Mapping[str, str]
) -> Survey:
    """The groups of a network for an input of [channels, px, px], with their scores.

    `importance`: a key of IMPORTANCE; "taylor" reads the gradients of the weights. `keep`: {module:
    why its outputs stay whole}; for the classifier, why its inputs do.

    Raises UnsupportedNetwork for a network that cannot be traced, and UnknownName for a module in
    `keep` that it does not have.
    """
    names = {module: name for name, module in model.named_modules()}
    classifier = names[model.get_classifier()]  # type: ignore[operator]
    outputs = [name for name in keep if name != classifier]
    graph, made = _traced(model, torch.zeros(1, channels, px, px), outputs)
    macs = network_size.layer_macs(model, px, channels)
    subject = _Subject(
        model,
        graph,
        names,
        first=next(iter(macs)),
        classifier=classifier,
        keep=keep,
        kept_nodes={id(made[name]): keep[name] for name in outputs},
    )
    score = IMPORTANCE[importance]()
    groups, roots = [], {}
    for raw in graph.get_all_groups():
        members = tuple(_members(subject, raw))
        name = _group_name(subject, raw, members)
        whole = _why_whole(subject, raw, members)
        worth = None if whole else score(raw)
        if worth is None and not whole:
            whole = f"no layer that {importance} can score"
        scores = () if worth is None else tuple(torch.nan_to_num(worth.detach().float()).tolist())
        groups.append(Group(name, len(raw[0].idxs), _shape(graph, raw), members, scores, whole))
        roots[name] = Root(raw[0].dep.target.module, raw[0].dep.handler)
    layers = tuple(_layer(name, count, model.get_submodule(name)) for name, count in macs.items())
    place = {name: number for number, name in enumerate(names.values())}
    return Survey(tuple(sorted(groups, key=lambda group: place[group.name])), layers, graph, roots)


def cut(found: Survey, plan: Plan, model: nn.Module) -> None:
    """Remove the plan's channels from the surveyed model, in place, and drop its gradients."""
    for name, channels in plan.cuts.items():
        root = found.roots[name]
        found.graph.get_pruning_group(root.layer, root.cut, list(channels)).prune()
    for parameter in model.parameters():
        parameter.grad = None
        # With the strides of a newly built network, so that it computes the same, bit by bit, when
        # it is built again from its widths.
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    memory_format.channels_last(model)


def outcome(before: Survey, pruned: nn.Module) -> list[dict[str, Json]]:
    """The width of each group before and after, and why it stayed whole where it did.

    `before`: the survey before the first cut.
    """
    now = {
        low_rank.whole_name(name): len(module.weight)
        for name, module in pruned.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    return [
        {
            "group": group.name,
            "before": group.width,
            "after": now[group.name],
            "whole": group.whole,
        }
        for group in before.groups
    ]


def _traced(
    model: nn.Module, blank: Tensor, outputs: list[str]
) -> tuple[tp.DependencyGraph, dict[str, tp.dependency.Node]]:
    """The dependency graph, and the node that makes the output of each named module."""
    with torch.enable_grad(), watching.watch(model, outputs) as seen:
        try:
            graph = tp.DependencyGraph().build_dependency(
                model, blank, forward_fn=lambda net, x: net(x), verbose=False
            )
        except Exception as error:  # the library's tracer has no error types of its own
            raise UnsupportedNetwork(
                f"{type(model).__name__} cannot be traced for pruning: {error}",
                "take another student, or build it without [prune]",
            ) from error
    nodes = {node.grad_fn: node for node in graph.module2node.values()}
    made = {}
    for name, output in seen.items():
        if output.grad_fn not in nodes:
            raise UnsupportedNetwork(
                f"the output of {name!r} is no node of the graph that pruning reads",
                "name another module in the taps of models/, or turn off the losses that read them",
            )
        made[name] = nodes[output.grad_fn]
    return graph, made


def _cuts_outputs(graph: tp.DependencyGraph, item: Any) -> bool:
    """Whether an item of a raw group cuts the outputs of its node, and not the inputs."""
    return bool(graph.is_out_channel_pruning_fn(item.dep.handler))


def _members(subject: _Subject, raw: RawGroup) -> list[Member]:
    found = []
    for item in raw:
        layer = item.dep.target.module
        if isinstance(layer, nn.Conv2d | nn.Linear):
            times = max(1, len(item.idxs) // len(raw[0].idxs))
            side: Side = "out" if _cuts_outputs(subject.graph, item) else "in"
            found.append(Member(subject.names[layer], side, times))
    return found


def _group_name(subject: _Subject, raw: RawGroup, members: tuple[Member, ...]) -> str:
    """The name of the group's first layer that writes its channels, depthwise layers aside."""
    writers = [
        member.layer
        for member in members
        if member.side == "out" and not widths.depthwise(subject.model.get_submodule(member.layer))
    ]
    root = subject.names[raw[0].dep.target.module]
    return min(writers or [root], key=list(subject.names.values()).index)


def _why_whole(subject: _Subject, raw: RawGroup, members: tuple[Member, ...]) -> str:
    """Why no channel of the group may go, or "" when channels may."""
    if Member(subject.first, "out") in members:
        return FIRST
    if Member(subject.classifier, "out") in members:
        return OUTPUTS
    kept = next(
        (
            subject.kept_nodes[id(item.dep.target)]
            for item in raw
            if id(item.dep.target) in subject.kept_nodes and _cuts_outputs(subject.graph, item)
        ),
        "",
    )
    if any((member.layer, member.side) == (subject.classifier, "in") for member in members):
        kept = subject.keep.get(subject.classifier, kept)
    if kept:
        return kept
    for member in members:
        if merged_later(subject.model, member.layer):
            return f"{member.layer} is a training branch that is merged later"
    return _obstacle(raw)


def _obstacle(raw: RawGroup) -> str:
    """Why a group cannot be cut and rebuilt, or ""."""
    for item in raw:
        target = item.dep.target
        module = target.module
        name = target.name.split(" ")[0]
        if isinstance(module, nn.Parameter):
            return f"{target.name} is a parameter of its own"
        if target.type in BY_PLACE:
            return "the network's code picks its channels by number"
        if isinstance(module, nn.Conv2d) and module.groups > 1 and not widths.depthwise(module):
            return f"{name} is a grouped convolution"
        if (
            not isinstance(module, nn.Conv2d | nn.Linear | _BatchNorm)
            and type(module).__module__ != OWN_OPS
        ):
            return f"{name} is a {type(module).__name__}"
        if len(item.idxs) % len(raw[0].idxs):
            return "its channels are read unevenly"
    return ""


def merged_later(model: nn.Module, layer: str) -> bool:
    """Whether timm merges the layer into another one after training.

    timm then uses numbers of channels that it noted when it built the network.
    """
    parts = layer.split(".")
    return any(
        hasattr(model.get_submodule(".".join(parts[:end])), "reparameterize")
        for end in range(1, len(parts))
    )


def _shape(graph: tp.DependencyGraph, raw: RawGroup) -> str:
    """The pattern of a group: the kind of each node, and the side on which it is cut."""
    return " ".join(
        f"{type(item.dep.target.module).__name__}.{'out' if _cuts_outputs(graph, item) else 'in'}"
        for item in raw
    )


def _layer(name: str, macs: int, layer: nn.Module) -> Layer:
    if isinstance(layer, nn.Conv2d):
        return Layer(name, macs, layer.out_channels, layer.in_channels, widths.depthwise(layer))
    assert isinstance(layer, nn.Linear)
    return Layer(name, macs, layer.out_features, layer.in_features, False)
