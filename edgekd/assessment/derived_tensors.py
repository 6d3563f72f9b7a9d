"""Tensors of a graph that is derived from another one: `derived_graph`."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.tflite.flatbuffer import LiteTensor


def parameter(values: npt.NDArray[Any]) -> LiteTensor:
    """A constant int32 that tells an operator what to do."""
    nothing = np.zeros(0)
    return LiteTensor(
        0,
        "",
        values.shape,
        "INT32",
        nothing.astype(np.float32),
        nothing.astype(np.int64),
        0,
        values,
    )


def shaped(tensor: LiteTensor, shape: tuple[int, ...]) -> LiteTensor:
    """The tensor in another shape, with as many scales; zeros in place of a constant's values."""
    if shape == tensor.shape:
        return tensor
    scale, zero = tensor.scale, tensor.zero_point
    if scale.size > 1:
        scale, zero = scale[: shape[tensor.axis]], zero[: shape[tensor.axis]]
    data = tensor.data
    if data is not None:
        data = np.broadcast_to(np.zeros((), data.dtype), shape)
    return dataclasses.replace(tensor, shape=shape, scale=scale, zero_point=zero, data=data)
