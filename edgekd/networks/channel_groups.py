"""Torch-Pruning's door: which channels of a network hang together, what each is worth, and the cut itself.

The dependency graph, the importances and the surgery are Torch-Pruning's (arXiv 2301.12900); what is taken is decided in
`edgekd.networks.pruning_plan`, because the library's own pruner cuts while it ranks and rounds widths without a word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch_pruning.ops import OPTYPE

from edgekd.core.errors import UnsupportedNetwork
from edgekd.networks import builders, network_size, widths
from edgekd.networks.pruning_plan import Group, Layer, Member, Plan

# Scores of a channel are means over its group's layers, divided by the group's mean so that groups can be compared.
IMPORTANCE: dict[str, Callable[[], Callable[[Any], Tensor | None]]] = {
    "magnitude": tp.importance.GroupMagnitudeImportance,  # sum of squares of all weights that go (arXiv 2301.12900)
    "bn_scale": tp.importance.BNScaleImportance,  # |gamma| of the batch norms (Network Slimming, arXiv 1708.06519)
    "taylor": tp.importance.GroupTaylorImportance,  # sum of |weight x gradient| (Molchanov et al. 2019, CVPR)
}
BY_PLACE = {
    OPTYPE.SLICE,
    OPTYPE.SPLIT,
    OPTYPE.UNBIND,
    OPTYPE.EXPAND,
}  # code that names channels by number or count
OWN_OPS = tp.ops.__name__  # nodes for what is no layer: additions, activations, reshapes
FIRST = "the first convolution, through which every later layer sees"
OUTPUTS = "the classes"


@dataclasses.dataclass(frozen=True)
class Survey:
    """A network's groups and layers as plain data, and the graph and handles that a cut needs."""

    groups: tuple[Group, ...]
    layers: tuple[Layer, ...]
    graph: tp.DependencyGraph
    roots: Mapping[str, tuple[nn.Module, Callable[..., Any]]]


def survey(
    model: nn.Module, px: int, channels: int, importance: str, keep: Mapping[str, str]
) -> Survey:
    """The groups of a network at px x px, scored. `keep`: {module: why its outputs (a classifier's inputs) stay whole}.

    `importance`: a key of IMPORTANCE; "taylor" reads the gradients that lie on the weights. Raises UnsupportedNetwork for
    a network that cannot be traced, and UnknownName for a module in `keep` that it has not.
    """
    names = {module: name for name, module in model.named_modules()}
    classifier = model.get_classifier()  # type: ignore[operator]
    outputs = [name for name in keep if name != names[classifier]]
    graph, made = _traced(model, torch.zeros(1, channels, px, px), outputs)
    macs = network_size.layer_macs(model, px, channels)
    first = next(iter(macs))
    reasons = {id(made[name]): keep[name] for name in outputs}
    score = IMPORTANCE[importance]()
    groups, roots = [], {}
    for raw in graph.get_all_groups():
        members = tuple(_members(graph, raw, names))
        root = raw[0].dep.target.module
        layers = [
            m.layer
            for m in members
            if m.side == "out" and not widths.depthwise(model.get_submodule(m.layer))
        ]
        name = min(layers or [names[root]], key=list(names.values()).index)
        whole = next(
            (
                reasons[id(item.dep.target)]
                for item in raw
                if id(item.dep.target) in reasons
                and graph.is_out_channel_pruning_fn(item.dep.handler)
            ),
            "",
        )
        if Member(first, "out") in members:
            whole = FIRST
        elif Member(names[classifier], "out") in members:
            whole = OUTPUTS
        elif any((m.layer, m.side) == (names[classifier], "in") for m in members):
            whole = keep.get(names[classifier], whole)
        merged = next((m.layer for m in members if _merged_later(model, m.layer)), "")
        whole = whole or (
            f"{merged} is a training branch that is merged later" if merged else _obstacle(raw)
        )
        worth = None if whole else score(raw)
        if worth is None and not whole:
            whole = f"no layer that {importance} can score"
        scores = () if worth is None else tuple(torch.nan_to_num(worth.detach().float()).tolist())
        groups.append(Group(name, len(raw[0].idxs), _shape(graph, raw), members, scores, whole))
        roots[name] = (root, raw[0].dep.handler)
    layers_ = tuple(_layer(name, count, model.get_submodule(name)) for name, count in macs.items())
    place = {name: number for number, name in enumerate(names.values())}
    return Survey(tuple(sorted(groups, key=lambda group: place[group.name])), layers_, graph, roots)


def cut(found: Survey, plan: Plan, model: nn.Module) -> None:
    """Take the plan's channels out of the model that was surveyed, in place. Its gradients are dropped."""
    for name, channels in plan.cuts.items():
        root, handler = found.roots[name]
        found.graph.get_pruning_group(root, handler, list(channels)).prune()
    for parameter in model.parameters():
        parameter.grad = None
    model.to(memory_format=torch.channels_last)


def _traced(
    model: nn.Module, blank: Tensor, outputs: list[str]
) -> tuple[tp.DependencyGraph, dict[str, Any]]:
    """The dependency graph, and the node that makes each named module's output."""
    with torch.enable_grad(), builders.watch(model, outputs) as seen:
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


def _members(graph: tp.DependencyGraph, raw: Any, names: Mapping[nn.Module, str]) -> list[Member]:
    found = []
    for item in raw:
        layer = item.dep.target.module
        if isinstance(layer, nn.Conv2d | nn.Linear):
            side = "out" if graph.is_out_channel_pruning_fn(item.dep.handler) else "in"
            found.append(Member(names[layer], side, max(1, len(item.idxs) // len(raw[0].idxs))))
    return found


def _obstacle(raw: Any) -> str:
    """Why a group cannot be cut and rebuilt, or ""."""
    for item in raw:
        target = item.dep.target
        if isinstance(target.module, nn.Parameter):
            return f"{target.name} is a parameter of its own"
        if target.type in BY_PLACE:
            return "the network's code picks its channels by number"
        if (
            isinstance(target.module, nn.Conv2d)
            and target.module.groups > 1
            and not widths.depthwise(target.module)
        ):
            return f"{target.name.split(' ')[0]} is a grouped convolution"
        if (
            not isinstance(target.module, nn.Conv2d | nn.Linear | _BatchNorm)
            and type(target.module).__module__ != OWN_OPS
        ):
            return f"{target.name.split(' ')[0]} is a {type(target.module).__name__}"
        if len(item.idxs) % len(raw[0].idxs):
            return "its channels are read unevenly"
    return ""


def _merged_later(model: nn.Module, layer: str) -> bool:
    """Whether timm merges the layer into another one after training, by channel counts that it noted when it was built."""
    parts = layer.split(".")
    return any(
        hasattr(model.get_submodule(".".join(parts[:end])), "reparameterize")
        for end in range(1, len(parts))
    )


def _shape(graph: tp.DependencyGraph, raw: Any) -> str:
    """The pattern of a group: the kinds of its nodes and on which side each is cut."""
    return " ".join(
        f"{type(item.dep.target.module).__name__}."
        f"{'out' if graph.is_out_channel_pruning_fn(item.dep.handler) else 'in'}"
        for item in raw
    )


def _layer(name: str, macs: int, layer: nn.Module) -> Layer:
    if isinstance(layer, nn.Conv2d):
        return Layer(name, macs, layer.out_channels, layer.in_channels, widths.depthwise(layer))
    assert isinstance(layer, nn.Linear)
    return Layer(name, macs, layer.out_features, layer.in_features, False)
