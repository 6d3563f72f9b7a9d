"""Writes transposed convolutions as TFLite's TRANSPOSE_CONV.

TFLite's operator has no groups and no dilation. It cuts its result as SAME does, evenly and the odd
row at the end, or not at all. Another border is cut off by slices behind it.
"""

from __future__ import annotations

from torch import fx

from edgekd.core.errors import UnsupportedNetwork
from edgekd.quantization.graph_edits import call, call_like, replace
from edgekd.quantization.graphs import Node, clean, nodes_of, shape_of, where
from edgekd.quantization.int8_functions import transposed_convolution
from edgekd.quantization.op_limits import aten, fill_of, pair


def as_layers(network: fx.GraphModule) -> None:
    """Write every transposed convolution as a layer whose weight has its output channels first.

    The weight's transposition is left to `constant_folding.fold_constants`. Raises
    UnsupportedNetwork, naming the module, for a form that TFLite has not.
    """
    for node in nodes_of(network.graph):
        if node.target is not aten.conv_transpose2d.input:
            continue
        stride, padding, extra = (pair(node.args, at, int(at == 3)) for at in (3, 4, 5))
        groups = int(node.args[6]) if len(node.args) > 6 else 1
        ends = [cut - more for cut, more in zip(padding, extra, strict=True)]
        crop, last = [*padding, *ends], node
        while (behind := _cropping(last)) is not None:
            last = next(iter(last.users))
            crop = [cut - more for cut, more in zip(crop, behind, strict=True)]
        odd = [f"{groups} groups"] if groups > 1 else []
        odd += ["dilation"] if pair(node.args, 7, 1) != [1, 1] else []
        odd += ["an output_padding above its padding"] if min(crop) < 0 else []
        if odd:
            raise UnsupportedNetwork(
                f"a transposed convolution with {odd[0]} {where(node)} has no int8 rule",
                "upsample with nn.Upsample and a convolution instead, which have one",
            )
        weight = call(network, node, aten.transpose.int, node.args[1], 0, 1)
        bias = node.args[2] if len(node.args) > 2 else None
        args = (node.args[0], weight, bias, stride, crop)
        value = last.meta["val"]
        replace(network, last, call_like(network, node, transposed_convolution, args, value))
    clean(network)


def _cropping(node: Node) -> list[int] | None:
    """[top, left, bottom, right] of the pad that alone reads a node; None for another reader.

    A pad may be negative: importers write a crop so.
    """
    reader = next(iter(node.users)) if len(node.users) == 1 else None
    if reader is None or reader.target not in (aten.pad.default, aten.constant_pad_nd.default):
        return None
    amounts = [int(value) for value in reader.args[1]]
    if fill_of(reader) != 0.0 or max(amounts) > 0 or any(amounts[4:]):
        return None
    left, right, top, bottom = (*amounts, 0, 0)[:4]
    return [top, left, bottom, right]


def write_crops(network: fx.GraphModule) -> None:
    """Leave a crop in its layer where TFLite's SAME is that crop, and else slice behind it."""
    for node in nodes_of(network.graph):
        if node.target is not transposed_convolution or is_same(node):
            continue
        crop = node.args[4]
        node.args = (*node.args[:4], [0, 0, 0, 0])
        node.meta["val"] = call(network, node, *_call_of(node)).meta["val"]
        part = node
        for axis, (first, last) in enumerate(zip(crop[:2], crop[2:], strict=True)):
            size = shape_of(node)[2 + axis]
            if first or last:
                part = _slice_behind(network, part, 2 + axis, first, size - last)
    clean(network)


def is_same(node: Node) -> bool:
    """Whether a layer cuts nothing, or what TFLite's SAME cuts."""
    sizes, outputs = shape_of(node.args[0])[2:], shape_of(node)[2:]
    kernel, strides, crop = shape_of(_stored(node.args[1]))[2:], node.args[3], node.args[4]
    return not any(crop) or all(
        -(-outputs[axis] // strides[axis]) == sizes[axis]
        and crop[axis] == ((sizes[axis] - 1) * strides[axis] + kernel[axis] - outputs[axis]) // 2
        for axis in (0, 1)
    )


def _stored(weight: Node) -> Node:
    """The parameter, which a fake-quantizer may read."""
    return weight if weight.op == "get_attr" else weight.args[0]


def _call_of(node: Node) -> tuple[object, ...]:
    return (node.target, *node.args)


def _slice_behind(network: fx.GraphModule, node: Node, axis: int, start: int, end: int) -> Node:
    """A slice that all readers of `node` read instead."""
    users = list(node.users)
    after = node.next
    part = call(network, after, aten.slice.Tensor, node, axis, start, end)
    part.meta["nn_module_stack"] = node.meta.get("nn_module_stack", {})
    for user in users:
        user.replace_input_with(node, part)
    return part
