"""The values of a constant tensor, from the bytes of its buffer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

DTYPES: dict[str, type[np.generic]] = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "FLOAT64": np.float64,
    "INT64": np.int64,
    "INT32": np.int32,
    "INT16": np.int16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "COMPLEX64": np.complex64,
    "COMPLEX128": np.complex128,
    "BFLOAT16": np.uint16,  # numpy has no such type: the bits as they are
}
# Several values in one byte, the first in its lowest bits: (bits of one value, whether signed).
PACKED = {"INT4": (4, True), "UINT4": (4, False), "INT2": (2, True)}
TEXT = "STRING"  # lengths and letters in one buffer: kept as bytes, whatever the shape


def constant(raw: Any, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The array of a buffer. Packed types become int8 or uint8, one value each.

    Raises ValueError for a type that no constant has, and for a wrong number of bytes.
    """
    data = bytes(bytearray(raw))
    if dtype == TEXT:
        return np.frombuffer(data, np.uint8)
    count = math.prod(shape)
    if dtype in PACKED:
        return _unpacked(data, *PACKED[dtype], count).reshape(shape)
    if dtype not in DTYPES:
        raise ValueError(f"a constant of type {dtype}")
    _check_length(data, count * np.dtype(DTYPES[dtype]).itemsize)
    return np.frombuffer(data, DTYPES[dtype]).reshape(shape)


def _unpacked(data: bytes, bits: int, signed: bool, count: int) -> npt.NDArray[Any]:
    each = 8 // bits
    _check_length(data, -(-count // each))
    shifts = np.arange(each, dtype=np.uint8) * bits
    mask = (1 << bits) - 1
    values = ((np.frombuffer(data, np.uint8)[:, None] >> shifts) & mask).reshape(-1)[:count]
    if not signed:
        return values.astype(np.uint8)
    return ((values.astype(np.int16) ^ (mask + 1) // 2) - (mask + 1) // 2).astype(np.int8)


def _check_length(data: bytes, expected: int) -> None:
    if len(data) != expected:
        raise ValueError(f"{len(data)} bytes instead of {expected}")
