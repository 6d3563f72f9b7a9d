"""Each op of the trained graph, fed with the file's own inputs: does the file compute what was trained, op by op?

The op-local check (`edgekd.proof.kernel_check`) asks whether a runtime does what the file says; this one whether the file says what
the network does. The published Q/DQ ONNX is cut open at every edge: the codes that the .tflite has there go in, the codes
that the next quantiser writes come out. A stride, a padding, a pool's size or a swapped input shows as many LSB at its
own edge and nowhere else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Json
from edgekd.core.errors import DataError, DeviceError, ModelFileError
from edgekd.proof.expected_model import GIVEN_SUFFIX, INNER_SUFFIX
from edgekd.proof.failures import Failures
from edgekd.tflite.flatbuffer import LiteGraph
from edgekd.tflite.onnx_runner import open_session
from edgekd.tflite.runtime import LiteRunner, quantize_pixels

CUT_SUFFIX = "_given"
# Fake-quantised float32 against integers. Sums of products up to 2^20 keep an error under 1/16 of an accumulator step in
# float32's 24 bits, so a layer whose step is M codes may be off by M / 16 beside the one LSB of rounding.
STEP_SHARE = 16.0
NEXT = "compare the op's options with the trained layer's; if they agree, report the student's name"


class CutNetwork:
    """A Q/DQ ONNX graph opened at the edges `names`; each is fed its codes and gives the codes it computes."""

    def __init__(self, onnx_bytes: bytes | memoryview, names: set[str]) -> None:
        import onnx

        try:
            model = onnx.shape_inference.infer_shapes(
                onnx.load_model_from_string(bytes(onnx_bytes))
            )
        except Exception as error:  # protobuf's DecodeError and onnx's own errors share no base
            raise ModelFileError(
                f"model.onnx cannot be read: {error}", "fetch the file again, or build again"
            ) from error
        graph = model.graph
        shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in graph.value_info
        }
        written = {
            name for node in graph.node if node.op_type == "QuantizeLinear" for name in node.output
        }
        self.shapes = {
            name: shapes[f"{name}{GIVEN_SUFFIX}"]
            for name in names
            if f"{name}{GIVEN_SUFFIX}" in written
        }
        for node in graph.node:
            name = node.input[0].removesuffix(GIVEN_SUFFIX) if node.input else ""
            if node.op_type == "DequantizeLinear" and name in self.shapes:
                node.input[0] = f"{name}{CUT_SUFFIX}"
        self.pixels = graph.input[0].name
        self.dtype = graph.input[0].type.tensor_type.elem_type
        del graph.output[:]
        for name, shape in self.shapes.items():
            graph.input.append(
                onnx.helper.make_tensor_value_info(
                    f"{name}{CUT_SUFFIX}", onnx.TensorProto.INT8, shape
                )
            )
            graph.output.append(
                onnx.helper.make_tensor_value_info(
                    f"{name}{GIVEN_SUFFIX}", onnx.TensorProto.INT8, shape
                )
            )
        self.session = open_session(model.SerializeToString(), "as_written")
        self.wanted = {port.name for port in self.session.get_inputs()}

    def run(
        self, pixels: npt.NDArray[np.uint8], codes: dict[str, npt.NDArray[np.int8]]
    ) -> dict[str, npt.NDArray[Any]]:
        """`pixels`: uint8 [1, channels, px, px]; `codes`: int8 of every edge, NCHW. The codes each edge should have."""
        feed = {
            self.pixels: pixels,
            **{f"{name}{CUT_SUFFIX}": value for name, value in codes.items()},
        }
        names = list(self.shapes)
        found = self.session.run(
            [f"{name}{GIVEN_SUFFIX}" for name in names],
            {name: value for name, value in feed.items() if name in self.wanted},
        )
        return dict(zip(names, found, strict=True))


def check_edges(
    onnx_bytes: bytes | memoryview,
    tflite: bytes | memoryview,
    images: npt.NDArray[np.uint8],
    failures: Failures,
) -> Json:
    """Every edge that both graphs have, on `images`, uint8 [n, px, px, channels], in the built-in kernels.

    None where no runtime takes the file, which is a failure.
    """
    try:
        return _compare(
            onnx_bytes, LiteRunner(tflite, kernels="builtin", keep="everything"), images, failures
        )
    except (ModelFileError, DeviceError, DataError) as error:
        failures.add(
            "edges", "op", "the whole graph", "a runtime that runs it", error.what, error.next_step
        )
        return None


def _compare(
    onnx_bytes: bytes | memoryview,
    runner: LiteRunner,
    images: npt.NDArray[np.uint8],
    failures: Failures,
) -> dict[str, Json]:
    graph = runner.graph
    writers = {
        graph.tensors[op.outputs[0]].name.removesuffix(INNER_SUFFIX): op
        for op in graph.ops
        if graph.tensors[op.outputs[0]].dtype == "INT8"
    }
    network = CutNetwork(onnx_bytes, set(writers))
    worst: dict[str, tuple[int, int, int]] = {}
    for image in images:
        runner.invoke(quantize_pixels(image[None], runner.input))
        codes = {name: _nchw(runner.value(writers[name].outputs[0])) for name in network.shapes}
        wrong = {name for name, value in codes.items() if list(value.shape) != network.shapes[name]}
        for name in wrong:
            failures.add(
                "edges",
                "op",
                writers[name].label(graph.tensors),
                network.shapes[name],
                list(codes[name].shape),
                NEXT,
            )
        if wrong:
            break
        for name, expected in network.run(image.transpose(2, 0, 1)[None].copy(), codes).items():
            off = np.abs(codes[name].astype(np.int64) - expected)
            before = worst.get(name, (0, 0, 0))
            worst[name] = (
                max(before[0], int(off.max())),
                before[1] + int((off == 0).sum()),
                before[2] + off.size,
            )
    for name, (lsb, _, _) in worst.items():
        allowed = 1 + int(multiplier(graph, writers[name]) / STEP_SHARE)
        if lsb > allowed:
            failures.add(
                "edges",
                "op",
                writers[name].label(graph.tensors),
                f"at most {allowed} LSB from the trained op",
                f"{lsb} LSB",
                NEXT,
            )
    if not worst:
        return {"edges": 0, "max_lsb": 0, "share_exact": 1.0, "worst_op": None}
    name = max(worst, key=lambda key: (worst[key][0], -worst[key][1] / worst[key][2]))
    return {
        "edges": len(worst),
        "max_lsb": worst[name][0],
        "share_exact": sum(row[1] for row in worst.values())
        / sum(row[2] for row in worst.values()),
        "worst_op": {
            "op": writers[name].label(graph.tensors),
            "max_lsb": worst[name][0],
            "share_exact": worst[name][1] / worst[name][2],
        },
    }


def multiplier(graph: LiteGraph, op: Any) -> float:
    """Output codes that one accumulator step moves, at most over the channels; 0 for ops without weights."""
    tensors = [graph.tensors[index] for index in op.inputs if index >= 0]
    if (
        len(tensors) < 3
        or tensors[1].data is None
        or not tensors[1].scale.size
        or tensors[2].dtype != "INT32"
    ):
        return 0.0
    return float(
        tensors[0].scale[0] * tensors[1].scale.max() / graph.tensors[op.outputs[0]].scale[0]
    )


def _nchw(value: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    return np.ascontiguousarray(value.transpose(0, 3, 1, 2) if value.ndim == 4 else value)
