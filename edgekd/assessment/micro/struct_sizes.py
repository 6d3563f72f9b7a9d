"""Sizes of TensorFlow Lite Micro's structures in the arena, for 32-bit and 64-bit pointers.

The fields are those of tflite-micro's headers at commit 8f6596d (October 2026): tensorflow/lite/c/
common.h, core/c/builtin_op_data.h, micro/micro_allocator.h and micro/kernels/*.h. A structure is
written as one letter per field, and laid out by C's rule: each field at a multiple of its size.

    i  an int, a float or an enum (4 bytes)    b  a bool or an int8 (1 byte)
    h  an int16 (2 bytes)                      p  a pointer or a size_t

tests/test_micro_interpreter.py compares the sizes of 64-bit pointers with what the interpreter
records. A microcontroller has 32-bit pointers; there they follow from the same fields, and have
not been compared with a device.
"""

from __future__ import annotations

import enum

from edgekd.tflite.operators import Operator, operator_table


class PointerBytes(enum.IntEnum):
    """The width of a pointer: 4 on a microcontroller, 8 in the interpreter on a desktop."""

    DEVICE = 4
    DESKTOP = 8


FIELD_BYTES = {"b": 1, "h": 2, "i": 4}

EVAL_TENSOR = "ppi"  # TfLiteEvalTensor: data, dims, type
NODE = "ppppppip"  # NodeAndRegistration: TfLiteNode, and a pointer to its kernel
TENSOR = "ipiipppiib"  # TfLiteTensor, as TF_LITE_STATIC_MEMORY makes it
QUANTIZATION = "ppi"  # TfLiteAffineQuantization: scale, zero_point, quantized_dimension
ZERO_POINT = "ii"  # TfLiteIntArray with one number
SCRATCH_HANDLE = "p"  # ScratchBufferHandle: where a buffer lies
ALLOCATION_INFO = "ppiiib"  # AllocationInfo of micro_allocation_info.h
PLANNED_BUFFER = "i" * 10  # GreedyMemoryPlanner::per_buffer_size

# The allocators, the memory planner, the allocator of options and the subgraph's entry: 488 bytes
# with 64-bit pointers, measured. They are smaller with 32-bit pointers; 488 stands for both.
FIXED_BYTES = 488

# Operator -> what its kernel keeps for the whole life of the interpreter, one word for each
# allocation (Init and Prepare). Arrays with a value per channel are added by micro_arena.py.
OP_DATA: dict[str, str] = {
    "ADD": "b" + "i" * 14,
    "AVERAGE_POOL_2D": "i" * 8,
    "BATCH_MATMUL": "pppbbb iiiiiii iiiii",
    "CONCATENATION": "bpphii" + "i" * 10,
    "CONV_2D": "i" * 9 + "pp" + "i" * 5,
    "DEPTHWISE_CONV_2D": "i" * 9 + "pp" + "i" * 5,
    "ELU": "b" * 256,  # a table of all codes
    "FULLY_CONNECTED": "i" * 9 + "ppbii",
    "HARD_SWISH": "hhhihi",
    "L2_NORMALIZATION": "i",
    "LEAKY_RELU": "i" * 6,
    "LOGISTIC": "i" * 4,
    "MAX_POOL_2D": "i" * 8,
    "MEAN": "i" * 11,
    "MUL": "i" * 9,
    "PAD": "i" * 14,
    "PADV2": "i" * 14,
    "PRELU": "i" * 7,
    "QUANTIZE": "i" * 8,
    "RELU": "i" * 7,
    "RELU6": "ii",
    "RESHAPE": "",
    "RESIZE_BILINEAR": "",
    "RESIZE_NEAREST_NEIGHBOR": "",
    "RSQRT": "i" * 7,
    "SLICE": "",
    "SOFTMAX": "i" * 8 + "pppp" + "i" * 4,
    "STRIDED_SLICE": "i" * 21,
    "SUB": "i" * 13,
    "TRANSPOSE": "",
    "TRANSPOSE_CONV": "i" * 9 + "pp" + "i" * 7,
}
# Operator -> its options, which the runtime unpacks from the file (builtin_op_data.h).
OPTIONS: dict[str, str] = {
    "ADD": "ib",
    "AVERAGE_POOL_2D": "i" * 10,
    "BATCH_MATMUL": "bbb",
    "CONCATENATION": "ii",
    "CONV_2D": "i" * 7,
    "DEPTHWISE_CONV_2D": "i" * 7,
    "ELU": "",
    "FULLY_CONNECTED": "iibbi",
    "HARD_SWISH": "",
    "L2_NORMALIZATION": "i",
    "LEAKY_RELU": "i",
    "LOGISTIC": "",
    "MAX_POOL_2D": "i" * 10,
    "MEAN": "b",
    "MUL": "i",
    "PAD": "",
    "PADV2": "",
    "PRELU": "",
    "QUANTIZE": "",
    "RELU": "",
    "RELU6": "",
    "RESHAPE": "i" * 9,
    "RESIZE_BILINEAR": "bb",
    "RESIZE_NEAREST_NEIGHBOR": "bb",
    "RSQRT": "",
    "SLICE": "",
    "SOFTMAX": "i",
    "STRIDED_SLICE": "i" * 5 + "b",
    "SUB": "ib",
    "TRANSPOSE": "",
    "TRANSPOSE_CONV": "i" * 5,
}
NOT_THERE: dict[str, str] = {Operator.GELU: "TensorFlow Lite Micro has no kernel for it"}
operator_table(f"{__name__}.OP_DATA", OP_DATA, absent=NOT_THERE)
operator_table(f"{__name__}.OPTIONS", OPTIONS, absent=NOT_THERE)
# For an operator beside the tables, which EdgeKD does not write: about the largest of them.
UNKNOWN_OP_DATA, UNKNOWN_OPTIONS = "i" * 24, "i" * 10


def size_of(fields: str, pointer: PointerBytes) -> int:
    """Bytes of a structure, with the gaps that alignment leaves; 0 for one without fields."""
    at = 0
    for field in fields:
        bytes_ = FIELD_BYTES.get(field, int(pointer))
        at = aligned(at, bytes_) + bytes_
    return aligned(at, alignment_of(fields, pointer))


def alignment_of(fields: str, pointer: PointerBytes) -> int:
    """The alignment of a structure: that of its largest field."""
    return max((FIELD_BYTES.get(field, int(pointer)) for field in fields), default=1)


def aligned(at: int, alignment: int) -> int:
    """The next multiple of `alignment`, from `at` on."""
    return -(-at // alignment) * alignment
