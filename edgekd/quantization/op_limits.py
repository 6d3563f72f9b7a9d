"""What TFLite's int8 operators cannot do, although they have a rule: odd borders, dilated pools.

Each check takes a node of the graph and returns what is wrong with it, or "".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from edgekd.quantization.graphs import Node, op_name, shape_of
from edgekd.tflite.int8_rules import PADDING_SAME, SATURATION, windows

aten = torch.ops.aten


def activation_of(node: Node) -> str | None:
    """TFLite's name of a node that is an activation: "RELU", "RELU6", "RELU_N1_TO_1", SATURATION,
    or None.
    """
    if node.target is aten.relu.default:
        return "RELU"
    if node.target is aten.relu6.default:
        return "RELU6"
    if node.target is aten.hardtanh.default:
        low = float(node.args[1]) if len(node.args) > 1 else -1.0
        high = float(node.args[2]) if len(node.args) > 2 else 1.0
        return {(0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 1.0): SATURATION}.get(
            (low, high)
        )
    return None


def odd_form(node: Node) -> str:
    """What TFLite's operator cannot do of what this node does, or ""."""
    for check in (_odd_convolution, _odd_pool, _odd_pairing, _odd_border, _odd_order, _odd_resize):
        found = check(node)
        if found:
            return found
    return ""


def is_depthwise(node: Node) -> bool:
    """Whether a node is a convolution with one input channel for each of several groups."""
    weight = _weight(node)
    return weight is not None and _groups(node) > 1 and shape_of(weight)[1] == 1


def _weight(node: Node) -> Node | None:
    """The parameter node of a convolution's weight; None for other nodes."""
    if node.target not in (aten.conv2d.default, aten.conv2d.padding):
        return None
    # The argument is the parameter, or the fake-quantizer that reads it.
    return node.args[1] if node.args[1].op == "get_attr" else node.args[1].args[0]


def _groups(node: Node) -> int:
    return int(node.args[6]) if len(node.args) > 6 else 1


def _odd_convolution(node: Node) -> str:
    weight = _weight(node)
    return (
        f"a convolution over {len(shape_of(weight)) - 2} axes"
        if weight is not None and len(shape_of(weight)) != 4
        else ""
    )


def _odd_pool(node: Node) -> str:
    """What TFLite cannot do in a pool. Its one border is SAME, and averages never count it."""
    if node.target is aten.adaptive_avg_pool2d.default and list(node.args[1]) != [1, 1]:
        return f"adaptive average pooling to {list(node.args[1])}"
    if node.target is aten.max_pool2d.default and any(size != 1 for size in pair(node.args, 4, 1)):
        return "max pooling with dilation"
    if node.target is aten.avg_pool2d.default:
        if len(node.args) > 6 and node.args[6] is not None:
            return "average pooling with a divisor of its own"
        if any(window_pads(node)) and window_pads(node) != same_pads(node):
            return (
                f"average pooling with a border of {window_pads(node)}, where TFLite's SAME is "
                f"{same_pads(node)},"
            )
    return ""


def _odd_pairing(node: Node) -> str:
    """A number as an operand, which `affine_rewrites` left, or a factor of the second operand."""
    if node.target not in (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor):
        return ""
    number = any(not isinstance(arg, fx.Node) for arg in node.args)
    return f"the op {op_name(node)} with a constant" if number or node.kwargs else ""


def _odd_border(node: Node) -> str:
    constant = (
        node.target is aten.constant_pad_nd.default
        or len(node.args) <= 2
        or node.args[2] == "constant"
    )
    is_pad = node.target in (aten.pad.default, aten.constant_pad_nd.default)
    return "padding with anything but one number" if is_pad and not constant else ""


def fill_of(node: Node) -> float:
    """The number that a pad puts around its input; 0 for other nodes."""
    index = {aten.pad.default: 3, aten.constant_pad_nd.default: 2}.get(node.target)
    return 0.0 if index is None else _fill(node, index)


def _odd_order(node: Node) -> str:
    """What TFLite cannot do in a clamp that stands alone, or a slice."""
    if node.target is aten.hardtanh.default and activation_of(node) != "RELU6":
        return f"the op hardtanh({node.args[1]}, {node.args[2]}) by itself"
    if node.target is aten.slice.Tensor and shape_of(node.args[0])[int(node.args[1])] == 1:
        return "a slice of the batch"
    if node.target is aten.softmax.int and int(node.args[1]) % len(shape_of(node)) != (
        len(shape_of(node)) - 1
    ):
        return "a softmax over another axis than the last"
    return ""


def _odd_resize(node: Node) -> str:
    if node.target is aten.expand.default:
        source, target = shape_of(node.args[0]), shape_of(node)
        if [size for size in source if size > 1] != [size for size in target if size > 1]:
            return f"expanding {source} to {target}"
    return ""


def window_pads(node: Node) -> list[int]:
    """[top, left, bottom, right] that a pool reads outside its map.

    With ceil_mode it reads past the end; with a stride it may stop before the border.
    """
    kernel, pads = pair(node.args, 1), pair(node.args, 3)
    strides = pair(node.args, 2) if len(node.args) > 2 and node.args[2] else kernel
    ends = []
    for axis, (size, out) in enumerate(
        zip(shape_of(node.args[0])[2:], shape_of(node)[2:], strict=True)
    ):
        reach = (out - 1) * strides[axis] + kernel[axis]
        ends.append(max(reach - size - pads[axis], 0))
    return [*pads, *ends]


def same_pads(node: Node) -> list[int]:
    """[top, left, bottom, right] of TFLite's border SAME for a pool of this kernel and stride."""
    kernel = pair(node.args, 1)
    strides = pair(node.args, 2) if len(node.args) > 2 and node.args[2] else kernel
    plans = [
        windows(size, kernel[axis], strides[axis], 1, PADDING_SAME)
        for axis, size in enumerate(shape_of(node.args[0])[2:])
    ]
    return [plans[0][1], plans[1][1], plans[0][2], plans[1][2]]


def pair(args: tuple[Any, ...], index: int, default: int = 0) -> list[int]:
    """An argument that is given for both axes of a map, or once for both."""
    value = args[index] if len(args) > index else default
    both = [int(part) for part in value] if isinstance(value, (list, tuple)) else [int(value)]
    return both * 2 if len(both) == 1 else both


def _fill(node: Node, index: int) -> float:
    return float(node.args[index] or 0.0) if len(node.args) > index else 0.0
