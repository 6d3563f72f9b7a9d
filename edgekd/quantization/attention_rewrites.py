"""Attention as TFLite's operators: BATCH_MATMUL, SOFTMAX, BATCH_MATMUL.

    scaled_dot_product_attention   softmax(beta * (q @ k^T + mask / beta)) @ v
    factors of the scores          into the softmax's beta, through products, sums and views

TFLite's SOFTMAX multiplies by beta itself, so the scale of an attention costs no operator and no
rounding. A mask holds large negative numbers, which would make the range of the scores coarse; it
is cut off where a softmax gives less than half a step of int8.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx

from edgekd.core.errors import UnsupportedNetwork
from edgekd.quantization.graph_edits import call, constant, held, replace
from edgekd.quantization.graphs import (
    PERMUTATIONS,
    RESHAPES,
    Node,
    clean,
    is_node,
    nodes_of,
    shape_of,
    where,
)
from edgekd.quantization.int8_functions import scaled_softmax

aten = torch.ops.aten

# Scores this far below the others give exp(-16) = 1e-7 in a softmax, and its int8 step is 1/256.
MASKED = -16.0
ATTENTION = frozenset({aten.scaled_dot_product_attention.default})
VIEWS = RESHAPES | PERMUTATIONS
SHARES = frozenset({scaled_softmax, aten.softmax.int, aten.sigmoid.default})


def attention(network: fx.GraphModule) -> None:
    """Write every attention as products and a softmax, with its scale in the softmax.

    Raises UnsupportedNetwork for a causal attention, and for a mask that depends on the image.
    """
    for node in nodes_of(network.graph):
        if node.target in ATTENTION:
            _decompose(network, node)
    for node in nodes_of(network.graph):
        if node.target is aten.softmax.int:
            _write_softmax(network, node)
    for node in nodes_of(network.graph):
        if node.target is aten.matmul.default and _is_share(node.args[1]):
            _swap(network, node)
    clean(network)


def _is_share(node: Node) -> bool:
    """Whether a tensor is the output of a softmax or a sigmoid, seen through views."""
    while is_node(node) and node.target in VIEWS:
        node = node.args[0]
    return is_node(node) and node.target in SHARES


def _swap(network: fx.GraphModule, node: Node) -> None:
    """A @ b as (b^T @ a^T)^T: the second operand of BATCH_MATMUL must have the zero point 0."""
    first, second = (call(network, node, aten.transpose.int, arg, -2, -1) for arg in node.args[:2])
    product = call(network, node, aten.matmul.default, second, first)
    replace(network, node, call(network, node, aten.transpose.int, product, -2, -1))


def _decompose(network: fx.GraphModule, node: Node) -> None:
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    arguments = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    query, key, value = (arguments[name] for name in ("query", "key", "value"))
    mask, scale = arguments.get("attn_mask"), arguments.get("scale")
    if arguments.get("is_causal") or arguments.get("enable_gqa"):
        raise UnsupportedNetwork(
            f"a causal or grouped attention {where(node)} has no int8 rule",
            "take a student that `edgekd models` lists",
        )
    beta = float(scale) if scale is not None else 1.0 / math.sqrt(shape_of(query)[-1])
    turned = call(network, node, aten.transpose.int, key, -2, -1)
    scores = call(network, node, aten.matmul.default, query, turned)
    if mask is not None:
        scores = call(network, node, aten.add.Tensor, scores, _mask(network, node, mask, beta))
    shares = call(network, node, scaled_softmax, scores, beta)
    replace(network, node, call(network, node, aten.matmul.default, shares, value))


def _mask(network: fx.GraphModule, node: Node, mask: Node, beta: float) -> Node:
    """What is added to the scores before they are multiplied by beta."""
    if mask.op != "get_attr":
        raise UnsupportedNetwork(
            f"an attention {where(node)} whose mask depends on the image has no int8 rule",
            "take a student that `edgekd models` lists",
        )
    value = held(network, mask)
    if value.dtype == torch.bool:
        value = torch.where(value, 0.0, MASKED)
    return constant(network, node, "attention_bias", value.clamp_min(MASKED) / beta)


def _write_softmax(network: fx.GraphModule, node: Node) -> None:
    """One softmax over the last axis, with the factors of its input in its beta."""
    source, axis = node.args[0], int(node.args[1])
    rank = len(shape_of(node))
    if axis % rank != rank - 1:
        turned = call(network, node, aten.transpose.int, source, axis, -1)
        soft = call(network, node, aten.softmax.int, turned, -1)
        replace(network, node, call(network, node, aten.transpose.int, soft, axis, -1))
        node, source = soft, turned
    beta = _pull_factor(network, node, source)
    if beta is not None:
        replace(network, node, call(network, node, scaled_softmax, node.args[0], beta))


def _pull_factor(network: fx.GraphModule, reader: Node, source: Node) -> float | None:
    """The factor of what `reader` reads, taken out of it; None where there is none.

    The nodes on the way must have no other readers.
    """
    if len(source.users) != 1:
        return None
    if source.target in (aten.mul.Tensor, aten.div.Tensor) and isinstance(
        source.args[1], (int, float)
    ):
        factor = float(source.args[1])
        factor = factor if source.target is aten.mul.Tensor else 1.0 / factor
        inner, source_input = 1.0, source.args[0]
        replace(network, source, source_input)
        inner = _pull_factor(network, reader, source_input) or 1.0
        return factor * inner
    if source.target is aten.add.Tensor and not source.kwargs:
        return _pull_through_sum(network, source)
    if source.target in VIEWS:
        return _pull_factor(network, source, source.args[0])
    if source.target is aten.matmul.default:
        factors = [_pull_factor(network, source, arg) for arg in source.args]
        found = [factor for factor in factors if factor is not None]
        return math.prod(found) if found else None
    return None


def _pull_through_sum(network: fx.GraphModule, total: Node) -> float | None:
    """C of c * x + constant, which becomes x + constant / c."""
    varying = [arg for arg in total.args if is_node(arg) and arg.op != "get_attr"]
    constants = [arg for arg in total.args if is_node(arg) and arg.op == "get_attr"]
    if len(varying) != 1 or len(constants) != 1:
        return None
    value = held(network, constants[0]).clamp_min(MASKED)
    factor = _pull_factor(network, total, varying[0])
    scaled: Tensor = value / (factor or 1.0)
    if factor is None and torch.equal(value, held(network, constants[0])):
        return None
    bias = constant(network, total, "attention_bias", scaled)
    total.args = tuple(bias if arg is constants[0] else arg for arg in total.args)
    return factor
