"""The int8 graph of a network at another input size or with other widths, from one capture of it.

The capture is the graph at one size. Strides, kernels and the order of the operators stay; shapes
follow from them (`edgekd.proof.shape_checks`). Two things are decided again: the borders of windows
(a PAD, or TFLite's SAME), by the rule of `edgekd.export.window_lowerings`, and the filter of an
AVERAGE_POOL_2D over a whole map. The derived graph is the one that a build at that size would
write, with zeros in place of the weights.

Not every network can be derived: an operator outside TAKEN, or a border whose rule the capture does
not show, raises NotDerivable, and the network is then captured once more.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Collection, Mapping

import numpy as np

from edgekd.assessment.derived_tensors import parameter, shaped
from edgekd.assessment.window_border import Pair, Window
from edgekd.export.tensor_names import BORDER, INNER, WEIGHT
from edgekd.proof.shape_checks import SHAPES
from edgekd.tflite.canonical import operator_codes, tensor_order
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, LiteTensor
from edgekd.tflite.int8_rules import (
    PADDING_SAME,
    PADDING_VALID,
    WEIGHTED_OPS,
)
from edgekd.tflite.op_versions import shared_versions
from edgekd.tflite.operators import Operator, operator_group

# The operators whose shapes follow from their inputs alone.
FOLLOWING = frozenset(
    [
        *("ADD", "CONCATENATION", "ELU", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "MEAN"),
        *("MUL", "PRELU", "QUANTIZE", "RELU", "RELU6", "SOFTMAX", "SUB"),
    ]
)
WINDOWS = frozenset({"AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D"})
TAKEN = FOLLOWING | WINDOWS | {"FULLY_CONNECTED", "PAD", "PADV2", "RESHAPE", "SLICE"}
operator_group(f"{__name__}.FOLLOWING", FOLLOWING, "more than its inputs decides its shape")
operator_group(f"{__name__}.WINDOWS", WINDOWS, "it has no border")
operator_group(f"{__name__}.TAKEN", TAKEN, "a network with it is captured at every size and width")
# The name of a value in another rank: it ends in the shape, and in the number of the tensor that
# the value lies in (`edgekd.export.tensor_places`).
OTHER_RANK = re.compile(r"(?P<stem>.*)/[0-9x]+_of_(?P<number>[0-9]+)")
# Tensors that the lowering makes for a border, by its operator.
MADE = {Operator.PAD: 2, Operator.PADV2: 3}

Widths = Mapping[str, tuple[int, int]]  # {layer: (outputs, inputs)}


class NotDerivable(Exception):
    """The graph does not follow from the capture. The message says which operator is to blame."""


def derived(graph: LiteGraph, px: int, widths: Widths, padded_same: Collection[str]) -> LiteGraph:
    """The graph for images of px x px, whose layers have these widths.

    `graph`: the capture, canonical, for a square image. `widths`: empty for those of the capture,
    and never wider. `padded_same`: the layers whose border follows TensorFlow's SAME at any size.

    The constants of the result have the right shapes and hold zeros; parameters such as axes are
    right. Its `data` is that of the capture. Raises NotDerivable.
    """
    work = _Derivation(graph, widths, frozenset(padded_same))
    work.take_input(px)
    for op in graph.ops:
        if op.name not in TAKEN:
            raise NotDerivable(f"{op.label(graph.tensors)} may depend on the size")
        try:
            work.take(op)
        except (ValueError, IndexError, ZeroDivisionError) as error:
            raise NotDerivable(f"{op.label(graph.tensors)}: {error}") from None
    return work.result()


class _Derivation:
    """The tensors and operators that are derived so far.

    `tensors`: by the capture's index; new ones behind them. `borders`: {output of a PAD that only
    a window reads: (its input, pixels before and after in height and width)}.
    """

    def __init__(self, graph: LiteGraph, widths: Widths, same: frozenset[str]) -> None:
        self.graph, self.widths, self.same = graph, widths, same
        self.tensors: dict[int, LiteTensor] = {}
        self.ops: list[LiteOp] = []
        self.borders: dict[int, tuple[int, list[Pair]]] = {}
        self.readers: dict[int, int] = {}
        for op in graph.ops:
            for index in op.inputs:
                self.readers[index] = self.readers.get(index, 0) + 1
        self.next = len(graph.tensors)
        self.more = 0  # tensors that borders have here, less those that they have in the capture
        self.moved: dict[int, int] = {}  # {output: `more` when it was written}

    def take_input(self, px: int) -> None:
        """Start from an image of px x px."""
        for index in self.graph.inputs:
            tensor = self.graph.tensors[index]
            if len(tensor.shape) != 4 or tensor.shape[1] != tensor.shape[2]:
                raise NotDerivable(f"the input {list(tensor.shape)} is no square image")
            self.tensors[index] = shaped(tensor, (tensor.shape[0], px, px, tensor.shape[3]))

    def take(self, op: LiteOp) -> None:
        """Derive one operator of the capture."""
        if op.name in (Operator.PAD, Operator.PADV2):
            self._border(op)
        elif op.name in WINDOWS:
            self._window(op)
        elif op.name == Operator.FULLY_CONNECTED:
            self._emit(op, [op.inputs[0], *self._layer(op)])
        elif op.name == Operator.RESHAPE:
            self._reshape(op)
        elif op.name == Operator.SLICE:
            self._slice(op)
        else:
            for index in op.inputs:
                self._operand(index, op)
            self._emit(op, op.inputs)

    def _old(self, index: int) -> LiteTensor:
        return self.graph.tensors[index]

    def _emit(
        self,
        op: LiteOp,
        inputs: tuple[int, ...] | list[int],
        options: Mapping[str, int] | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        """Add the operator with these inputs. `shape`: of its output, where no rule says it."""
        made = dataclasses.replace(
            op, inputs=tuple(inputs), options={**op.options, **(options or {})}
        )
        target = self._old(op.outputs[0])
        if shape is None:
            found = SHAPES[op.name](made, [self.tensors[index] for index in inputs], target)
            shape = tuple(found or ())
        if len(shape) != len(target.shape) or min(shape, default=1) < 1:
            raise ValueError(f"an output of {list(shape)} in place of {list(target.shape)}")
        self.tensors[target.index] = shaped(target, shape)
        self.moved[target.index] = self.more
        self.ops.append(made)

    def _operand(self, index: int, op: LiteOp) -> None:
        """A constant operand: one value, one for each channel, or a parameter such as axes."""
        tensor = self._old(index)
        if tensor.data is None:
            return
        shape, channels = tensor.shape, self._channels(op)
        if tensor.scale.size and tensor.data.size > 1:
            if tensor.data.size != shape[-1]:
                raise ValueError("a constant operand for each pixel")
            shape = (*shape[:-1], channels)
        self.tensors[index] = shaped(tensor, shape)

    def _channels(self, op: LiteOp) -> int:
        """Channels of the operator's first computed input."""
        first = next(index for index in op.inputs if self._old(index).data is None)
        return self.tensors[first].shape[-1]

    def _layer(self, op: LiteOp) -> list[int]:
        """The weight and the bias of a layer, in its new widths."""
        weight, bias = (self._old(index) for index in op.inputs[1:3])
        shape, axis = list(weight.shape), WEIGHTED_OPS[op.name]
        outputs, inputs = self.widths.get(weight.name.removesuffix(WEIGHT), (shape[axis], 0))
        shape[axis] = outputs
        if inputs and op.name == Operator.CONV_2D:
            groups = self._old(op.inputs[0]).shape[3] // weight.shape[3]
            shape[3] = inputs // groups
        elif inputs and op.name == Operator.FULLY_CONNECTED:
            shape[1] = inputs
        self.tensors[weight.index] = shaped(weight, tuple(shape))
        self.tensors[bias.index] = shaped(bias, (outputs,))
        return [weight.index, bias.index]

    def _border(self, op: LiteOp) -> None:
        """A PAD before a window becomes part of it. Any other may depend on the size."""
        target, amounts = self._old(op.outputs[0]), self._old(op.inputs[1]).data
        if not target.name.endswith(BORDER) or self.readers[target.index] != 1 or amounts is None:
            raise ValueError("a PAD of the network's own")
        pairs = [(int(before), int(after)) for before, after in amounts[1:3]]
        self.borders[target.index] = (op.inputs[0], pairs)
        self.more -= MADE[Operator(op.name)]

    def _window(self, op: LiteOp) -> None:
        """A convolution or a pool, with its border by the rule of the lowering."""
        source, own = self.borders.get(op.inputs[0], (op.inputs[0], None))
        options = op.options
        layer = self._layer(op) if op.name in WEIGHTED_OPS else []
        old, new = self._old(source).shape, self.tensors[source].shape
        if op.name == Operator.AVERAGE_POOL_2D:
            kernel = (int(options["filterHeight"]), int(options["filterWidth"]))
            # A pool of the network's own steps by its filter; one over the whole map by a pixel.
            if kernel != old[1:3] or (options["strideH"], options["strideW"]) != (1, 1):
                raise ValueError("a pool over a part of the map")
            return self._emit(op, [source], {"filterHeight": new[1], "filterWidth": new[2]})
        window = self._shape_of(op)
        same = window.same(new)
        pads = (
            window.pads(own, old, new)
            if layer
            else window.pool_pads(own, old, self._old(op.outputs[0]).shape, new)
        )
        if not any(map(any, pads)):
            return self._emit(op, [source, *layer], {"padding": PADDING_VALID})
        filled = self._filled(op)
        if pads == same and not filled:
            return self._emit(op, [source, *layer], {"padding": PADDING_SAME})
        padded = self._pad(op, source, pads, filled)
        return self._emit(op, [padded, *layer], {"padding": PADDING_VALID})

    def _shape_of(self, op: LiteOp) -> Window:
        """The window of a convolution or a pool."""
        if op.name not in WEIGHTED_OPS:
            kernel = (int(op.options["filterHeight"]), int(op.options["filterWidth"]))
            return Window.of(op, kernel, follows_size=False)
        weight = self._old(op.inputs[1])
        layer = weight.name.removesuffix(WEIGHT)
        return Window.of(op, weight.shape[1:3], follows_size=layer in self.same)

    def _filled(self, op: LiteOp) -> LiteOp | None:
        """The PADV2 before a max pool whose input can be negative."""
        before = next((one for one in self.graph.ops if op.inputs[0] in one.outputs), None)
        return before if before is not None and before.name == Operator.PADV2 else None

    def _pad(self, op: LiteOp, source: int, pads: list[Pair], filled: LiteOp | None) -> int:
        """A PAD, or a PADV2 with the lowest code, before a window. Returns its output's index."""
        edge = self._old(op.outputs[0]).name.removesuffix(INNER)
        amounts = np.array([(0, 0), *pads, (0, 0)], np.int32)
        shape = self.tensors[source].shape
        grown = tuple(int(size + sum(pair)) for size, pair in zip(shape, amounts, strict=True))
        output = self._new(self.tensors[source], f"{edge}{BORDER}", grown)
        vector = self._new(parameter(amounts), f"{edge}{BORDER}_amounts", amounts.shape)
        inputs = [source, vector]
        if filled is not None:
            lowest = self._old(filled.inputs[2])
            self.tensors[lowest.index] = lowest
            inputs.append(lowest.index)
        name = Operator.PAD if filled is None else Operator.PADV2
        self.more += MADE[name]
        self.ops.append(LiteOp(0, str(name), 0, tuple(inputs), (output,), {}))
        return output

    def _new(self, like: LiteTensor, name: str, shape: tuple[int, ...]) -> int:
        index, self.next = self.next, self.next + 1
        self.tensors[index] = dataclasses.replace(like, index=index, name=name, shape=shape)
        return index

    def _reshape(self, op: LiteOp) -> None:
        """A RESHAPE of one value for each channel, into another rank."""
        source, target = self._old(op.inputs[0]), self._old(op.outputs[0])
        shape, channels = list(target.shape), self._channels(op)
        if sorted(source.shape)[:-1] != [1] * (len(source.shape) - 1):
            if self.tensors[source.index].shape != source.shape:
                raise ValueError("a RESHAPE of a map")
        else:
            shape[int(np.argmax(shape))] = channels
        vector = self._old(op.inputs[1])
        values = np.array(shape, np.int32)
        self.tensors[vector.index] = dataclasses.replace(vector, data=values)
        self._emit(op, op.inputs, shape=tuple(shape))
        named = OTHER_RANK.fullmatch(target.name)
        if named:
            number = int(named["number"]) + self.moved.get(source.index, 0)
            label = f"{named['stem']}/{'x'.join(map(str, shape))}_of_{number}"
            for index, name in ((target.index, label), (vector.index, f"{label}_shape")):
                self.tensors[index] = dataclasses.replace(self.tensors[index], name=name)

    def _slice(self, op: LiteOp) -> None:
        """A SLICE of whole maps: some of the channels."""
        source, new = self._old(op.inputs[0]).shape, self.tensors[op.inputs[0]].shape
        begin, size = (self._old(index) for index in op.inputs[1:3])
        if begin.data is None or size.data is None:
            raise ValueError("a SLICE by computed numbers")
        values = size.data.copy()
        for axis, whole in enumerate(source):
            if begin.data[axis] == 0 and values[axis] == whole:
                values[axis] = new[axis]
            elif new[axis] != whole:
                raise ValueError("a SLICE of an axis whose size changes")
        self.tensors[begin.index] = begin
        self.tensors[size.index] = dataclasses.replace(size, data=values)
        self._emit(op, op.inputs)

    def result(self) -> LiteGraph:
        """The graph in canonical form: tensors in their order, equal parameters once."""
        first = {index: number for number, index in enumerate(self.tensors)}
        raw = self._indexed(list(self.tensors.values()), first)
        order, second = tensor_order(raw)
        place = {index: second[number] for index, number in first.items() if number in second}
        graph = self._indexed([raw.tensors[old] for old in order], place)
        versions = [version.number for version in shared_versions(graph.ops, graph.tensors)]
        ops = [
            dataclasses.replace(op, version=number)
            for op, number in zip(graph.ops, versions, strict=True)
        ]
        written = copy.copy(graph.written)
        names = dict.fromkeys((op.name, op.version, None) for op in ops)
        written.operatorCodes = operator_codes(names)
        return dataclasses.replace(graph, ops=ops, written=written)

    def _indexed(self, tensors: list[LiteTensor], place: Mapping[int, int]) -> LiteGraph:
        """The derived graph, whose tensors are in this order. `place`: {own index: the new one}."""
        inputs, outputs = (
            tuple(place[index] for index in part)
            for part in (self.graph.inputs, self.graph.outputs)
        )
        ops = [
            dataclasses.replace(
                op,
                index=number,
                inputs=tuple(place[index] for index in op.inputs),
                outputs=tuple(place[index] for index in op.outputs),
            )
            for number, op in enumerate(self.ops)
        ]
        listed = [
            dataclasses.replace(tensor, index=number) for number, tensor in enumerate(tensors)
        ]
        return dataclasses.replace(
            self.graph, tensors=listed, ops=ops, inputs=inputs, outputs=outputs
        )
