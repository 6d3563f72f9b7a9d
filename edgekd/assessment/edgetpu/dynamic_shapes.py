"""Whether a graph has a shape that is only known at run time.

The Edge TPU's compiler refuses such a graph as a whole. A -1 in `shape_signature` is no sign of
one: converters write it for a batch that may be resized, beside a static `shape`. What makes a
tensor dynamic is an operator that takes its output's shape from values that are computed at run
time: SetTensorToDynamic in the kernels of TensorFlow 2.5 (tensorflow/lite/kernels).
"""

from __future__ import annotations

import dataclasses

from edgekd.tflite.flatbuffer import LiteGraph, LiteOp
from edgekd.tflite.operators import operator_group

# Operator -> the inputs whose values give the output's shape. Constants make the shape static.
SHAPE_INPUTS: dict[str, tuple[int, ...]] = {
    "ARG_MAX": (1,),
    "ARG_MIN": (1,),
    "BATCH_TO_SPACE_ND": (1, 2),
    "BROADCAST_TO": (1,),
    "CONV_3D_TRANSPOSE": (0,),
    "EXPAND_DIMS": (1,),
    "FILL": (0,),
    "MEAN": (1,),
    "MIRROR_PAD": (1,),
    "MULTINOMIAL": (1,),
    "NON_MAX_SUPPRESSION_V4": (2,),
    "NON_MAX_SUPPRESSION_V5": (2,),
    "ONE_HOT": (1,),
    "PAD": (1,),
    "PADV2": (1,),
    "RANDOM_STANDARD_NORMAL": (0,),
    "RANDOM_UNIFORM": (0,),
    "RANGE": (0, 1, 2),
    "REDUCE_ALL": (1,),
    "REDUCE_ANY": (1,),
    "REDUCE_MAX": (1,),
    "REDUCE_MIN": (1,),
    "REDUCE_PROD": (1,),
    "RESHAPE": (1,),
    "RESIZE_BILINEAR": (1,),
    "RESIZE_NEAREST_NEIGHBOR": (1,),
    "RFFT2D": (1,),
    "SCATTER_ND": (2,),
    "SEGMENT_SUM": (1,),
    "SLICE": (1, 2),
    "SPACE_TO_BATCH_ND": (1, 2),
    "SPARSE_TO_DENSE": (1,),
    "SPLIT": (0,),
    "SPLIT_V": (1, 2),
    "STRIDED_SLICE": (1, 2, 3),
    "SUM": (1,),
    "TILE": (1,),
    "TOPK_V2": (1,),
    "TRANSPOSE": (1,),
    "TRANSPOSE_CONV": (0,),
    "UNSORTED_SEGMENT_MAX": (2,),
    "UNSORTED_SEGMENT_MIN": (2,),
    "UNSORTED_SEGMENT_PROD": (2,),
    "UNSORTED_SEGMENT_SUM": (2,),
    "WHERE": (0,),
}
operator_group(f"{__name__}.SHAPE_INPUTS", SHAPE_INPUTS, "shapes alone give its output's shape")
# How many elements these give depends on every value that they read.
BY_VALUES = frozenset({"EMBEDDING_LOOKUP_SPARSE", "READ_VARIABLE", "UNIQUE"})
operator_group(f"{__name__}.BY_VALUES", BY_VALUES, "its output's shape does not depend on values")


@dataclasses.dataclass(frozen=True)
class ComputedShape:
    """An operator whose output has no shape before run time, and why."""

    op: LiteOp
    why: str


def computed_shape(graph: LiteGraph) -> ComputedShape | None:
    """The first operator whose output's shape is computed at run time, None where there is none."""
    for op in graph.ops:
        if op.name in BY_VALUES:
            return ComputedShape(op, "the shape of its output depends on the values that it reads")
        for place in SHAPE_INPUTS.get(op.name, ()):
            index = op.inputs[place] if place < len(op.inputs) else -1
            if index >= 0 and graph.tensors[index].data is None:
                name = graph.tensors[index].name or f"tensor {index}"
                return ComputedShape(op, f"it takes its output's shape from {name}")
    return None
