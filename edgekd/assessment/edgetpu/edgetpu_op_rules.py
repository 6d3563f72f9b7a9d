"""The Edge TPU compiler's rules for single operators, beyond the rules that hold for all."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from edgekd.assessment.edgetpu.status import LIMITATION, TWO_D_OUTPUT
from edgekd.assessment.op_placement import Refusal
from edgekd.tflite.flatbuffer import LiteOp, LiteTensor
from edgekd.tflite.operators import operator_group

SOFTMAX_LIMIT = 16_000  # elements, from the table of supported operations
# A reduction over channels needs a multiple of this many channels: table of 2020.
MEAN_CHANNEL_MULTIPLE = 4
# Elements beyond which RESHAPE "may not map". The table gives no figure; this one is our own, and
# far above any classifier.
RESHAPE_LIMIT = 65_536
# Elements beyond which RESIZE_* "may be left on the CPU depending on size". Our own figure, too.
RESIZE_LIMIT = 2**20


@dataclasses.dataclass(frozen=True)
class Case:
    """An operator with its tensors, in the order of the operator."""

    op: LiteOp
    inputs: list[LiteTensor]
    outputs: list[LiteTensor]

    @property
    def source(self) -> tuple[int, ...]:
        """The shape of the first input."""
        return self.inputs[0].shape

    @property
    def output(self) -> tuple[int, ...]:
        """The shape of the first output."""
        return self.outputs[0].shape

    @property
    def elements(self) -> int:
        """How many elements the first output has."""
        return math.prod(self.output)


def _convolution(case: Case) -> Refusal | None:
    options = case.op.options
    if options.get("dilationWFactor", 1) != options.get("dilationHFactor", 1):
        return LIMITATION, "dilation differs between width and height"
    return None


def _no_activation(case: Case) -> Refusal | None:
    if case.op.options.get("fusedActivationFunction", 0):
        return LIMITATION, "it has a fused activation"
    return None


def _concatenation(case: Case) -> Refusal | None:
    constants = [one.data != _zero(one) for one in case.inputs if one.data is not None]
    refusal = _no_activation(case)
    odd = constants and (len(case.inputs) != 2 or any(other.any() for other in constants))
    if refusal is None and odd:
        return LIMITATION, "a constant input must be all zeros, and one of exactly two inputs"
    return refusal


def _zero(tensor: LiteTensor) -> int:
    return int(tensor.zero_point[0]) if tensor.zero_point.size else 0


def _fully_connected(case: Case) -> Refusal | None:
    refusal = _one_row(case)
    if refusal is None and case.op.options.get("weightsFormat", 0):
        return LIMITATION, "only the default weights format is supported"
    return refusal


def _one_row(case: Case) -> Refusal | None:
    if math.prod(case.output[:-1]) > 1:
        return TWO_D_OUTPUT, f"its output is {list(case.output)}"
    return None


def _softmax(case: Case) -> Refusal | None:
    refusal = _one_row(case)
    if refusal is None and case.elements > SOFTMAX_LIMIT:
        return LIMITATION, f"{case.elements} elements, at most {SOFTMAX_LIMIT}"
    return refusal


def _reduction(case: Case) -> Refusal | None:
    shape, axes = case.source, case.inputs[1].data
    rank = len(shape)
    over = {int(axis) % rank for axis in axes.reshape(-1)} if axes is not None else set[int]()
    if rank == 4 and 0 in over:
        return LIMITATION, "it reduces over the batch"
    if rank - 1 in over and shape[-1] % MEAN_CHANNEL_MULTIPLE:
        wanted = f"which must be a multiple of {MEAN_CHANNEL_MULTIPLE}"
        return LIMITATION, f"it reduces {shape[-1]} channels, {wanted}"
    return None


def _pad(case: Case) -> Refusal | None:
    widths = case.inputs[1].data
    if widths is not None and len(case.source) == 4 and widths[0].any():
        return LIMITATION, "it pads the batch"
    return None


def _pack(case: Case) -> Refusal | None:
    if int(case.op.options.get("axis", 0)) % len(case.output) == 0:
        return LIMITATION, "it packs over the batch"
    return None


def _reshape(case: Case) -> Refusal | None:
    if case.elements > RESHAPE_LIMIT:
        return LIMITATION, f"large tensors may not map, and this has {case.elements} elements"
    return None


def _resize(case: Case) -> Refusal | None:
    if case.elements > RESIZE_LIMIT:
        why = f"large resizes may be left on the CPU, and this has {case.elements} elements"
        return LIMITATION, why
    return None


def _squeeze(case: Case) -> Refusal | None:
    """Only leading ones: [1, 5, 10] -> [5, 10] is mapped, [5, 1, 10] -> [5, 10] is not."""
    source, output = case.source, case.output
    dropped = len(source) - len(output)
    if source[dropped:] == output and all(dim == 1 for dim in source[:dropped]):
        return None
    return LIMITATION, f"only leading ones can be squeezed, not {list(source)} to {list(output)}"


def _strided_slice(case: Case) -> Refusal | None:
    strides, options = case.inputs[3].data, case.op.options
    strided = strides is not None and (strides != 1).any()
    if strided or options.get("ellipsisMask", 0) or options.get("newAxisMask", 0):
        return LIMITATION, "all strides must be 1, with no ellipsis and no new axis"
    return None


def _prelu(case: Case) -> Refusal | None:
    if sum(dim > 1 for dim in case.inputs[1].shape[:-1]):
        return LIMITATION, "alpha must be one-dimensional (Keras: shared_axes=[1, 2])"
    return None


SPECIAL: dict[str, Callable[[Case], Refusal | None]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "AVERAGE_POOL_2D": _no_activation,
    "MAX_POOL_2D": _no_activation,
    "CONCATENATION": _concatenation,
    "FULLY_CONNECTED": _fully_connected,
    "SOFTMAX": _softmax,
    "MEAN": _reduction,
    "SUM": _reduction,
    "REDUCE_MAX": _reduction,
    "REDUCE_MIN": _reduction,
    "PAD": _pad,
    "PACK": _pack,
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "PRELU": _prelu,
}
operator_group(f"{__name__}.SPECIAL", SPECIAL, "the rules that hold for all operators are enough")
