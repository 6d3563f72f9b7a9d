"""Finds activations that were written with simpler operators, and writes them as one.

Exporters take GELU and hard-swish apart, each in its own way. So a chain of operators is not
compared with a pattern: it is a function of one number, and is evaluated on a grid of them. PReLU
has a slope for each channel, and is found by its form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from edgekd.quantization.graph_edits import call, replace
from edgekd.quantization.graphs import Node, clean, is_node, nodes_of, shape_of
from edgekd.quantization.op_limits import aten

# What a chain may consist of: operators that compute each element by itself.
ELEMENTWISE = frozenset(
    {
        aten.add.Tensor,
        aten.sub.Tensor,
        aten.mul.Tensor,
        aten.div.Tensor,
        aten.pow.Tensor_Scalar,
        aten.erf.default,
        aten.tanh.default,
        aten.relu6.default,
        aten.hardtanh.default,
        aten.hardsigmoid.default,
    }
)
# The operators by which a chain is noticed. Others have a rule of their own.
TELLTALES = frozenset(
    {
        aten.erf.default,
        aten.tanh.default,
        aten.relu6.default,
        aten.hardtanh.default,
        aten.hardsigmoid.default,
    }
)
# A chain with more operators than GELU's form with tanh is no activation.
LONGEST = 10
GRID = torch.linspace(-8, 8, 257, dtype=torch.float64)
# Constants of a file are float32, and exporters round them: 0.7071 for the root of 1/2.
SAME = 1e-4
Function = Callable[[Tensor], Tensor]
# What a chain may be: its operator, keyword arguments, and the function.
ACTIVATIONS: tuple[tuple[Any, dict[str, str], Function], ...] = (
    (aten.gelu.default, {}, functional.gelu),
    (
        aten.gelu.default,
        {"approximate": "tanh"},
        lambda x: functional.gelu(x, approximate="tanh"),
    ),
    (aten.hardswish.default, {}, functional.hardswish),
    (aten.hardsigmoid.default, {}, functional.hardsigmoid),
)


def recognise_activations(network: fx.GraphModule) -> None:
    """Write every chain of operators that is an activation as one operator, in place.

    The longest chain is taken: hard-sigmoid is a part of hard-swish.
    """
    for node in reversed(nodes_of(network.graph)):
        read = node.target in ELEMENTWISE and (node.users or node.op == "output")
        if read and _recognise(network, node):
            network.graph.eliminate_dead_code()
    _prelus(network)
    clean(network)


def _recognise(network: fx.GraphModule, last: Node) -> bool:
    """Replace the chain that ends in `last`, if it is an activation. Returns whether it was."""
    for source in _sources(last):
        found = _values(last, source)
        for target, keywords, function in ACTIVATIONS:
            if found is not None and bool((found - function(GRID)).abs().max() <= SAME):
                if last.target is target:
                    return False
                new = call(network, last, target, source)
                new.kwargs = keywords
                replace(network, last, new)
                return True
    return False


def _sources(last: Node) -> Iterator[Node]:
    """The tensors that a chain up to `last` may start from: nearest first."""
    seen, pending, noticed = {last}, [last], False
    while pending and len(seen) <= LONGEST:
        node = pending.pop(0)
        noticed = noticed or node.target in TELLTALES
        for source in node.all_input_nodes:
            if source not in seen and shape_of(source) == shape_of(last):
                seen.add(source)
                if source.target in ELEMENTWISE:
                    pending.append(source)
    if noticed:
        yield from sorted(seen - {last}, reverse=True)


def _values(last: Node, source: Node) -> Tensor | None:
    """What a chain gives for GRID; None where it reads more than `source` and numbers."""
    known = {source: GRID}

    def value(node: Any) -> Any:
        if not is_node(node):
            return node
        if node not in known:
            if node.target not in ELEMENTWISE or node.kwargs or len(known) > LONGEST:
                raise _NoChain
            known[node] = node.target(*(value(arg) for arg in node.args))
        return known[node]

    try:
        found: Tensor = value(last)
    except _NoChain:
        return None
    return found


class _NoChain(Exception):
    """A node that is no part of a chain."""


def _prelus(network: fx.GraphModule) -> None:
    """max(x, 0) + slope * min(x, 0), where the slope is a parameter or a number."""
    for node in nodes_of(network.graph):
        if node.target is not aten.add.Tensor or not all(map(is_node, node.args)):
            continue
        for above, below in (node.args, node.args[::-1]):
            source = _clamped(above, (0, None))
            slope = _slope_of(below, source) if source is not None else None
            if slope is None:
                continue
            if is_node(slope):
                steep = call(network, node, aten.reshape.default, slope, [-1])
                new = call(network, node, aten.prelu.default, source, steep)
            else:
                new = call(network, node, aten.leaky_relu.default, source, slope)
            replace(network, node, new)
            break


def _clamped(node: Node, bounds: tuple[Any, Any]) -> Node | None:
    """What a node clamps to these bounds; None for another node."""
    if node.target is aten.relu.default and bounds == (0, None):
        return node.args[0]
    if node.target is not aten.clamp.default:
        return None
    return node.args[0] if (*node.args, None, None)[1:3] == bounds else None


def _slope_of(product: Node, source: Node) -> Any:
    """The slope in slope * min(source, 0): a number, or a parameter of one for each channel."""
    if product.target is not aten.mul.Tensor:
        return None
    for low, slope in (product.args, product.args[::-1]):
        if isinstance(slope, float) and is_node(low) and _clamped(low, (None, 0)) is source:
            return slope
        if not (is_node(slope) and slope.op == "get_attr" and is_node(low)):
            continue
        sizes = shape_of(slope)
        channels = [size for size in sizes if size != 1]
        fits = not channels or channels == shape_of(source)[1:2]
        if fits and _clamped(low, (None, 0)) is source:
            return slope
    return None
