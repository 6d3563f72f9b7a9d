"""The number formats that a .tflite can be in."""

from __future__ import annotations

import enum
from collections.abc import Iterable

# In an out folder and in a bundle: the files in formats other than int8. They do not lie beside
# model.tflite, since a bundle's model_float32.tflite is the old name of model_float_io.tflite, the
# int8 network behind float32 ports.
FOLDER = "formats"


class NumberFormat(enum.StrEnum):
    """What weights and activations of a .tflite are stored and computed in."""

    INT8 = "int8"  # both int8; certified
    FLOAT16 = "float16"  # weights float16; computed in float32, or in float16 on a GPU
    FLOAT32 = "float32"
    DYNAMIC = "dynamic"  # weights int8; activations float32, rounded to int8 inside operators
    INT16X8 = "int16x8"  # weights int8, activations int16
    MIXED = "mixed"  # the int8 file, with the operators that lose most in float32


def in_order(formats: Iterable[NumberFormat]) -> tuple[NumberFormat, ...]:
    """The formats to make, each once, in the order above. int8 is always among them."""
    wanted = {NumberFormat.INT8, *formats}
    return tuple(one for one in NumberFormat if one in wanted)


def file_name(number_format: NumberFormat) -> str:
    """The path of a format's file in an out folder and in a bundle."""
    if number_format is NumberFormat.INT8:
        return "model.tflite"
    return f"{FOLDER}/model_{number_format}.tflite"
