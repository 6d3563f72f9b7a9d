"""Runs a .tflite whose input is real numbers or int16 codes of them, as pixels normalised in
training, or int8 codes of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edgekd.core.errors import ModelFileError
from edgekd.tflite.flatbuffer import LiteTensor
from edgekd.tflite.runtime import LiteRunner, quantize_pixels

FLOAT, INT16, INT8 = "FLOAT32", "INT16", "INT8"
INT16_LIMITS = (-32768, 32767)


def normalised(
    images: npt.NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]
) -> npt.NDArray[np.float32]:
    """(pixel / 255 - mean) / std of images uint8 [n, px, px, channels], float32."""
    unit = images.astype(np.float32) / np.float32(255)
    return np.asarray((unit - np.asarray(mean, np.float32)) / np.asarray(std, np.float32))


def answers(
    data: bytes | memoryview,
    images: npt.NDArray[np.uint8],
    mean: Sequence[float],
    std: Sequence[float],
    done: Callable[[int], None] = lambda _count: None,
) -> npt.NDArray[np.float32]:
    """Outputs, float32 [n, classes], on images uint8 [n, px, px, channels].

    `done` is called with the number of images after each. An int8 input takes pixels, as that of
    an int8 file, so `mean` and `std` are nothing to it. Raises ModelFileError for a file whose
    input or output is of another type than float32, int16 and int8, or that the runtime refuses.
    """
    runner = LiteRunner(data)
    rows = []
    for number, image in enumerate(images, 1):
        if runner.input.dtype == INT8:
            given = quantize_pixels(image[None], runner.input)
        else:
            given = _codes(normalised(image[None], mean, std), runner.input)
        rows.append(_real(runner.invoke(given), runner.output))
        done(number)
    return np.concatenate(rows).reshape(len(images), -1)


def _codes(value: npt.NDArray[np.float32], tensor: LiteTensor) -> npt.NDArray[np.generic]:
    if tensor.dtype == FLOAT:
        return value
    scale, zero_point = _grid(tensor)
    codes = np.rint(value / scale) + zero_point
    return np.clip(codes, *INT16_LIMITS).astype(np.int16)


def _real(value: npt.NDArray[np.generic], tensor: LiteTensor) -> npt.NDArray[np.float32]:
    if tensor.dtype == FLOAT:
        return value.astype(np.float32)
    scale, zero_point = _grid(tensor)
    return ((value.astype(np.float32) - zero_point) * scale).astype(np.float32)


def _grid(tensor: LiteTensor) -> tuple[np.float32, int]:
    """(scale, zero point) of a tensor of codes. Raises ModelFileError for another type."""
    if tensor.dtype not in (INT8, INT16) or tensor.scale.size != 1:
        raise ModelFileError(
            f"tensor {tensor.name!r} is {tensor.dtype}, expected float32, or codes of one scale",
            "give a file that `edgekd build` wrote to the folder formats",
        )
    return np.float32(tensor.scale[0]), int(tensor.zero_point[0])
