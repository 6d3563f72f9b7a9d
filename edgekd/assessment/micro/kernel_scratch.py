"""Buffers that TensorFlow Lite Micro's kernels ask for while one operator runs, in bytes.

They lie in the planned part of the arena, beside the tensors that are alive at that operator. Which
there are depends on the library of kernels: the reference kernels, CMSIS-NN for Arm's Cortex-M, or
ESP-NN for the ESP32-S3.

Sources: tflite-micro micro/kernels/{reduce_common,transpose_conv}.cc at commit 8f6596d; CMSIS-NN
arm_convolve_get_buffer_sizes_s8.c and arm_depthwise_conv_get_buffer_sizes_s8.c (the DSP forms, as
in raspberrypi/pico-tflmicro); esp-nn src/convolution/esp_nn_conv_esp32s3.c and
esp_nn_depthwise_conv_s8_esp32s3.c (2026). Other versions of ESP-NN ask for other sizes. Only the
sizes of the reference kernels have been compared with a running interpreter.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable

from edgekd.tflite.flatbuffer import LiteGraph, LiteOp

INT32_BYTES, INT16_BYTES = 4, 2


class KernelLibrary(enum.StrEnum):
    """Whose kernels the firmware is built with."""

    REFERENCE = "reference"
    CMSIS_NN = "cmsis-nn"
    ESP_NN = "esp-nn"


@dataclasses.dataclass(frozen=True)
class Window:
    """A convolution: heights, widths and channels of its tensors. `pad`: rows above, columns left
    of the input.
    """

    in_h: int
    in_w: int
    in_c: int
    filter_h: int
    filter_w: int
    out_h: int
    out_w: int
    out_c: int
    stride_h: int
    stride_w: int
    dilated: bool
    pad: tuple[int, int]

    @property
    def filter_size(self) -> int:
        """Height times width of the filter."""
        return self.filter_h * self.filter_w

    @property
    def is_pointwise(self) -> bool:
        """Whether the filter is 1 x 1, without padding and dilation."""
        return self.filter_size == 1 and self.pad == (0, 0) and not self.dilated


def scratch_buffers(graph: LiteGraph, op: LiteOp, library: KernelLibrary) -> list[int]:
    """The size of each buffer that the kernel of an int8 operator asks for."""
    out = math.prod(graph.tensors[op.outputs[0]].shape)
    if op.name == "MEAN":  # a sum for each output, an index for each dimension, and the axes
        source, axes = (graph.tensors[index] for index in op.inputs[:2])
        counts = (out, len(source.shape), math.prod(axes.shape))
        return [count * INT32_BYTES for count in counts]
    if op.name == "TRANSPOSE_CONV":
        return [out * INT32_BYTES]
    sizes = LIBRARIES[library].get(op.name)
    if sizes is None:
        return []
    return [size for size in (sizes(_window(graph, op)),) if size > 0]


def _window(graph: LiteGraph, op: LiteOp) -> Window:
    source, weights = graph.tensors[op.inputs[0]].shape, graph.tensors[op.inputs[1]].shape
    target, options = graph.tensors[op.outputs[0]].shape, op.options
    stride = int(options.get("strideH") or 1), int(options.get("strideW") or 1)
    (in_h, in_w, in_c), (filter_h, filter_w) = source[1:4], weights[1:3]
    out_h, out_w, out_c = target[1:4]
    dilated = max(int(options.get(f"dilation{side}Factor") or 1) for side in "HW") > 1
    same = int(options.get("padding") or 0) == 0  # Padding.SAME in schema.fbs
    rows, columns = (
        max((target[1 + axis] - 1) * stride[axis] + weights[1 + axis] - source[1 + axis], 0) // 2
        if same
        else 0
        for axis in (0, 1)
    )
    return Window(
        in_h=in_h,
        in_w=in_w,
        in_c=in_c,
        filter_h=filter_h,
        filter_w=filter_w,
        out_h=out_h,
        out_w=out_w,
        out_c=out_c,
        stride_h=stride[0],
        stride_w=stride[1],
        dilated=dilated,
        pad=(rows, columns),
    )


def _cmsis_conv(w: Window) -> int:
    """Two columns of im2col in int16, none for a 1 x 1 filter."""
    if w.is_pointwise:
        return 0
    return 2 * _up(w.filter_size * w.in_c, 4) * INT16_BYTES


def _cmsis_depthwise(w: Window) -> int:
    """One window in int16; none for a 3 x 3 filter, nor for several filters per channel."""
    if w.in_c != w.out_c or w.dilated or (w.filter_h, w.filter_w) == (3, 3):
        return 0
    return w.filter_size * w.in_c * INT16_BYTES


def _esp_conv(w: Window) -> int:
    """Copies of the filter and the input at addresses that the vector unit reads."""
    align = 32
    if w.is_pointwise and (w.stride_h, w.stride_w) == (1, 1):
        channels = _up(w.in_c, 8)
        pixels = w.in_h * w.in_w
        copy = pixels * channels if w.in_c % 8 else 0
        return copy + channels * w.out_c + (16 * channels if pixels >= 8 else 0) + align
    row, length = w.filter_w * w.in_c, w.filter_size * w.in_c
    if row < 16 <= length:
        return w.out_c * 4 + 32 + (w.out_c + 1) * _up(length, 16) + align
    padded = 0
    if w.pad != (0, 0):
        padded = (w.in_w + 2 * w.pad[1]) * (w.in_h + 2 * w.pad[0]) * w.in_c
    right = max(0, w.out_w * w.stride_w + w.filter_w - 1 - w.in_w)
    bottom = max(0, w.out_h * w.stride_h + w.filter_h - 1 - w.in_h)
    edge = (w.in_w + right) * (w.in_h + bottom) * w.in_c if right or bottom else 0
    filters = w.filter_size * _up(w.in_c, 16) * w.out_c + _up(row, 16) * w.filter_h * w.out_c
    return padded + filters + edge + align + w.out_c * 4


def _esp_depthwise(w: Window) -> int:
    """Copies of the filter and of a padded input, whole or in strips of rows."""
    filters, inputs = w.filter_size * w.in_c, w.in_h * w.in_w * w.in_c
    multiplier = w.out_c // w.in_c
    if multiplier % 4 == 0:
        return 2 * (w.filter_size * w.out_c + inputs) + 32
    if multiplier > 1 or w.in_c <= 3:
        return 32
    if w.in_c % 8:
        channels = _up(w.in_c, 8)
        copies = _up(w.filter_size * channels * 2, 16) + _up(w.in_h * w.in_w * channels * 2, 16)
        return copies + _up(w.out_h * w.out_w * channels, 16) + 3 * channels * 4 + 16
    if (w.filter_h, w.filter_w) != (3, 3):
        whole = 2 * (filters + inputs)
        strips = 2 * (filters + w.in_w * w.filter_h * w.in_c)
        return (whole if whole <= 48 * 1024 else strips) + 32
    if w.in_c % 16 == 0:
        wide, high = w.in_w + 2 * w.pad[1], w.in_h + 2 * w.pad[0]
        if w.pad == (0, 0):
            wide = w.out_w * w.stride_w + w.filter_w - 1
            high = w.out_h * w.stride_h + w.filter_h - 1
        whole = wide * high * w.in_c
        return filters + (whole if whole <= 40 * 1024 else wide * w.filter_h * w.in_c) + 16
    if w.in_c >= 12:
        channels = _up(w.in_c, 16)
        wide = w.in_w + 2 * w.pad[1] + max(0, w.out_w * w.stride_w + 2 - w.in_w)
        high = w.in_h + 2 * w.pad[0] + max(0, w.out_h * w.stride_h + 2 - w.in_h)
        return (9 + wide * high + w.out_h * w.out_w) * channels + 64
    return 2 * (filters + inputs) + 32


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


LIBRARIES: dict[KernelLibrary, dict[str, Callable[[Window], int]]] = {
    KernelLibrary.REFERENCE: {},
    KernelLibrary.CMSIS_NN: {"CONV_2D": _cmsis_conv, "DEPTHWISE_CONV_2D": _cmsis_depthwise},
    KernelLibrary.ESP_NN: {"CONV_2D": _esp_conv, "DEPTHWISE_CONV_2D": _esp_depthwise},
}
