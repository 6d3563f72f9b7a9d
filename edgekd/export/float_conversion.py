"""Files in number formats other than int8, made from a float network's ONNX by two libraries.

onnx2tf makes the float32 .tflite. The others are made from that file: float16 here, dynamic and
int16x8 by ai-edge-quantizer. onnx2tf 2.6.9 writes files of these names too, and they are not used.
Its float16 file has float16 activations, which LiteRT's kernels refuse ("input_type ==
kTfLiteFloat32 || ... was not true"). Its dynamic file of EfficientNet-Lite0 gave another answer
than the float network on all of 80 photographs.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgekd.core.errors import UnsupportedNetwork
from edgekd.core.number_formats import NumberFormat
from edgekd.tflite.flatbuffer import read
from edgekd.tflite.float16 import with_float16_weights
from edgekd.tflite.library_versions import with_versions
from edgekd.tflite.runtime import LiteRunner

# An int16 activation has 32,767 steps on either side of zero, so half of them are kept for images
# that go beyond the calibration images. EfficientNet-Lite0's logits on 24 photographs were off by
# at most 4.8 without this margin, by 0.85 with it, and by 0.85 with twice the margin.
INT16_MARGIN = 2.0
NEXT = "leave this format out of convert.formats, or take another student"
LONGEST = 300  # characters of a library's message that a report keeps

Images = npt.NDArray[np.float32]


def float32_file(model: bytes) -> bytes:
    """The float32 .tflite of an ONNX model (batch 1, NCHW): input and output float32, NHWC.

    Raises UnsupportedNetwork with onnx2tf's message.
    """
    import onnx2tf

    with (
        _library("onnx2tf"),
        tempfile.TemporaryDirectory(prefix="edgekd-") as folder,
        # ONNX Runtime's shape inference, which it calls, leaves files in the current folder.
        contextlib.chdir(folder),
    ):
        onnx2tf.convert(
            # The model itself: a file would be rewritten in place.
            onnx_graph=onnx.load_from_string(model),
            output_folder_path=folder,
            tflite_backend="flatbuffer_direct",
            non_verbose=True,
            # Both call programs on PATH, and the graph is simple and named already.
            not_use_onnxsim=True,
            not_use_opname_auto_generate=True,
        )
        (made,) = Path(folder).glob("*_float32.tflite")
        data = made.read_bytes()
    graph, wanted = read(data), [port.name for port in onnx.load_from_string(model).graph.output]
    given = [graph.tensors[index].name for index in graph.outputs]
    if len(wanted) > 1 and given != wanted:
        raise UnsupportedNetwork(f"onnx2tf: its outputs are {given}, and not {wanted}", NEXT)
    # It writes a custom operator, which no runtime has, in place of what it does not know.
    unknown = sorted({op.custom.removeprefix("ONNX_") for op in graph.ops if op.custom})
    if unknown:
        raise UnsupportedNetwork(
            f"onnx2tf: it has no TFLite operator for {', '.join(unknown)}", NEXT
        )
    return data


def derived_file(wanted: NumberFormat, float32: bytes, calibration: Images) -> bytes:
    """The .tflite of another format, made from the float32 one.

    `calibration`: inputs of the network, float32 [n, px, px, channels]; int16x8 alone uses them.
    Raises UnsupportedNetwork with the library's message.
    """
    if wanted is NumberFormat.FLOAT16:
        return with_float16_weights(float32)
    from ai_edge_quantizer import quantizer, recipe

    with _library("ai-edge-quantizer"):
        if wanted is NumberFormat.DYNAMIC:
            work = quantizer.Quantizer(float32, recipe.dynamic_wi8_afp32())
            return with_versions(bytes(work.quantize().quantized_model))
        work = quantizer.Quantizer(float32, recipe.static_wi8_ai16())
        made = work.quantize(_ranges(float32, calibration)).quantized_model
        return with_versions(bytes(made))


def _ranges(float32: bytes, calibration: Images) -> Mapping[str, Mapping[str, Any]]:
    """{activation: {"min", "max"}}, as ai-edge-quantizer takes them: of all images, with a margin.

    Its own calibration averages over the images, and clips what lies beyond.
    """
    runner = LiteRunner(float32, kernels="builtin", keep="everything")
    graph = runner.graph
    written = sorted({*graph.inputs, *(index for op in graph.ops for index in op.outputs)})
    seen = dict.fromkeys(written, (0.0, 0.0))
    for image in calibration:
        runner.invoke(image[None])
        for index, (low, high) in seen.items():
            value = runner.value(index)
            seen[index] = (min(low, float(value.min())), max(high, float(value.max())))
    found = {}
    for index, bounds in seen.items():
        tensor = graph.tensors[index]
        found[tensor.name] = {
            end: np.full([1] * len(tensor.shape), bound * INT16_MARGIN, np.float32)
            for end, bound in zip(("min", "max"), bounds, strict=True)
        }
    return found


@contextlib.contextmanager
def _library(name: str) -> Iterator[None]:
    """Keep what a library prints off the console, and raise UnsupportedNetwork when it fails."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield
    # The libraries raise many types, and onnx2tf also ends the process.
    except (Exception, SystemExit) as error:
        told = str(error).strip() or type(error).__name__
        if isinstance(error, SystemExit):
            told = _last_line(printed.getvalue()) or "it ended the process"
        line = " ".join(told.split())
        line = line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
        raise UnsupportedNetwork(f"{name}: {line}", NEXT) from error


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
