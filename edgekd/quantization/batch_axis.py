"""Lets a graph that was recorded for one image serve any number of images.

Its shapes hold a 1 where the number of images belongs. The images are followed from operator to
operator: a permutation moves their axis, and a reshape may join it with another axis.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from typing import Any

import torch
from torch import fx

from edgekd.core.errors import UnsupportedNetwork
from edgekd.quantization.graphs import PERMUTATIONS, Node, nodes_of, op_name, permutation, where

aten = torch.ops.aten

SHAPED = frozenset({aten.reshape.default, aten.view.default, aten._unsafe_view.default})
JOINS = frozenset({*SHAPED, aten.flatten.using_ints, aten.unflatten.int})
# Operators that take out axes which their argument 1 names.
REDUCTIONS = frozenset({aten.mean.dim, aten.sum.dim_IntList, aten.amax.default})
# Operators that take out, or put in, the axis that their argument 1 names.
ADDING = frozenset({aten.unsqueeze.default, aten.stack.default})
DROPPING = frozenset({aten.select.int, aten.unbind.int})


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Where a tensor holds the images: its axis, and how many elements of that axis vary slower
    (`ahead`) and faster (`behind`) than the images.
    """

    axis: int
    ahead: int = 1
    behind: int = 1

    def moved(self, axis: int) -> _Batch:
        """The same in another axis."""
        return dataclasses.replace(self, axis=axis)


def any_batch(network: fx.GraphModule) -> None:
    """Write every shape of a recorded graph so that it holds for any number of images, in place.

    Raises UnsupportedNetwork where the images cannot be followed.
    """
    image = next(node for node in nodes_of(network.graph) if node.op == "placeholder")
    with network.graph.inserting_after(image):
        count = network.graph.call_function(aten.sym_size.int, (image, 0))
    count.meta["val"] = 1
    places: dict[Node, _Batch] = {image: _Batch(0)}
    for node in nodes_of(network.graph):
        if node.op != "call_function" or node is count:
            continue
        source = next((arg for arg in node.all_input_nodes if arg in places), None)
        if source is None:
            continue
        if node.target is aten.cat.default:
            _widen_constants(network, node, places, count)
        places[node] = _follow(node, source, places[source])
    if not count.users:
        network.graph.erase_node(count)


def _follow(node: Node, source: Node, batch: _Batch) -> _Batch:
    """The place of the images in what a node computes; its shapes are made to fit."""
    rank = _rank(source)
    if node.target in JOINS:
        return _joined(node, batch)
    if node.target in PERMUTATIONS:
        return batch.moved(permutation(node).index(batch.axis))
    if node.target is operator.getitem:
        return batch
    if node.target is aten.expand.default:
        return _expanded(node, batch)
    if node.target in REDUCTIONS:
        over = [int(axis) % rank for axis in node.args[1]]
        keep = len(node.args) > 2 and bool(node.args[2])
        return batch if keep else _without(node, batch, over)
    if node.target in DROPPING or node.target is aten.squeeze.dim:
        axis = (int(node.args[1]) if len(node.args) > 1 else 0) % rank
        stays = node.target is aten.squeeze.dim and list(source.meta["val"].shape)[axis] != 1
        return batch if stays else _without(node, batch, [axis])
    if node.target in ADDING:
        axis = (int(node.args[1]) if len(node.args) > 1 else 0) % (rank + 1)
        return batch.moved(batch.axis + (axis <= batch.axis))
    value = node.meta.get("val")
    more = value.ndim - rank if isinstance(value, torch.Tensor) else 0
    return batch.moved(batch.axis + max(more, 0))  # of a smaller operand


def _rank(node: Node) -> int:
    value = node.meta["val"]
    return int(value[0].ndim if isinstance(value, (list, tuple)) else value.ndim)


def _without(node: Node, batch: _Batch, axes: list[int]) -> _Batch:
    if batch.axis in axes:
        raise _lost(node)
    return batch.moved(batch.axis - sum(axis < batch.axis for axis in axes))


def _joined(node: Node, batch: _Batch) -> _Batch:
    """A reshape: as many elements come before the images in its output as in its input."""
    before, after = (list(one.meta["val"].shape) for one in (node.args[0], node))
    ahead = math.prod(before[: batch.axis]) * batch.ahead
    fits: list[_Batch] = []
    for axis, size in enumerate(after):
        slower, left = divmod(ahead, math.prod(after[:axis]))
        if not left and slower and size % slower == 0:
            fits.append(_Batch(axis, slower, size // slower))
    # A linear layer behind it reads the last axis of one image.
    feeds_layer = any(reader.target is aten.linear.default for reader in node.users)
    fits = [one for one in fits if not (feeds_layer and one.axis == len(after) - 1)]
    if not fits:
        raise _lost(node)
    found = min(fits, key=lambda one: (one.ahead * one.behind > 1, one.ahead > 1))
    if node.target in SHAPED:
        sizes = [-1 if index == found.axis else int(size) for index, size in enumerate(after)]
        node.target, node.args = aten.reshape.default, (node.args[0], sizes)
    return found


def _expanded(node: Node, batch: _Batch) -> _Batch:
    more = len(node.args[1]) - _rank(node.args[0])
    sizes = list(node.args[1])
    sizes[batch.axis + more] = -1
    node.args = (node.args[0], sizes, *node.args[2:])
    return batch.moved(batch.axis + more)


def _widen_constants(
    network: fx.GraphModule, node: Node, places: dict[Node, _Batch], count: Node
) -> None:
    """Repeat the constants of a concatenation, such as a class token, for every image."""
    axis = next(places[part].axis for part in node.args[0] if part in places)
    parts: list[Any] = []
    for part in node.args[0]:
        if part not in places:
            sizes = [count if index == axis else -1 for index in range(_rank(part))]
            with network.graph.inserting_before(node):
                wide = network.graph.call_function(aten.expand.default, (part, sizes))
            wide.meta = {**node.meta, "val": part.meta["val"]}
            part = wide
        parts.append(part)
    node.args = (parts, *node.args[1:])


def _lost(node: Node) -> UnsupportedNetwork:
    return UnsupportedNetwork(
        f"the network was recorded for one image, and {op_name(node)} {where(node)} mixes images",
        "export it with a dynamic batch, or give it as a Python function that returns the module",
    )
