"""Each operator of the trained graph, on the file's own inputs.

`kernel_check` asks whether a runtime does what the file says. This check asks whether the file says
what the network does. The published Q/DQ ONNX graph is cut open at every edge: the codes that the
.tflite has there are the input, and the codes that the next QuantizeLinear writes are compared. A
wrong stride, padding, pool size or a swapped input then shows as many LSB at its own edge and at no
other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.errors import DataError, DeviceError, ModelFileError
from edgekd.proof.certificate_record import Edges, WorstOp
from edgekd.proof.expected_model import GIVEN_SUFFIX, INNER_SUFFIX, natural
from edgekd.proof.failures import Failures
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp
from edgekd.tflite.int8_rules import DATA_INPUT, WEIGHTED_OPS
from edgekd.tflite.onnx_runner import open_session
from edgekd.tflite.runtime import LiteRunner, quantize_pixels

CUT_SUFFIX = "_given"
# The ONNX graph computes in fake-quantized float32, the file in integers. A sum of products up to
# 2^20 has an error under 1/16 of an accumulator step in float32's 24 bits. So a layer whose step is
# M codes may differ by M / 16, beside 1 LSB of rounding.
STEP_SHARE = 16.0
NEXT = (
    "compare the operator's options with the trained layer's; if they agree, report the student's "
    "name"
)


class CutNetwork:
    """A Q/DQ ONNX graph opened at the edges `names`.

    Each edge takes its codes and gives the codes that it computes. Raises ModelFileError for bytes
    that are no ONNX model.
    """

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
        del graph.output[:]
        info, int8 = onnx.helper.make_tensor_value_info, onnx.TensorProto.INT8
        for name, shape in self.shapes.items():
            graph.input.append(info(f"{name}{CUT_SUFFIX}", int8, shape))
            graph.output.append(info(f"{name}{GIVEN_SUFFIX}", int8, shape))
        self.session = open_session(model.SerializeToString(), "as_written")
        self.wanted = {port.name for port in self.session.get_inputs()}

    def run(
        self, pixels: npt.NDArray[np.uint8], codes: dict[str, npt.NDArray[np.int8]]
    ) -> dict[str, npt.NDArray[Any]]:
        """The codes that each edge should have.

        `pixels`: uint8 [1, channels, px, px]. `codes`: the int8 codes of every edge, NCHW.
        """
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
    orders: Mapping[str, Sequence[int]] | None = None,
) -> Edges | None:
    """Check every edge that both graphs have, in the built-in kernels.

    `images`: uint8 [n, px, px, channels]. `orders`: by the tensor's name, the order of its axes in
    the file. A wrong order gives wrong codes, so it need not be trusted. None, and a failure, when
    no runtime takes the file.
    """
    try:
        runner = LiteRunner(tflite, kernels="builtin", keep="everything")
        return _compare(onnx_bytes, runner, images, failures, orders or {})
    except (ModelFileError, DeviceError, DataError) as error:
        failures.add(
            "edges", "op", "the whole graph", "a runtime that runs it", error.what, error.next_step
        )
        return None


@dataclass
class _Differences:
    """What was counted at one edge."""

    max_lsb: int = 0
    exact: int = 0
    elements: int = 0

    def add(self, lsb: npt.NDArray[np.int64]) -> None:
        self.max_lsb = max(self.max_lsb, int(lsb.max()))
        self.exact += int((lsb == 0).sum())
        self.elements += lsb.size


def _compare(
    onnx_bytes: bytes | memoryview,
    runner: LiteRunner,
    images: npt.NDArray[np.uint8],
    failures: Failures,
    orders: Mapping[str, Sequence[int]],
) -> Edges:
    graph = runner.graph
    writers = {
        graph.tensors[op.outputs[0]].name.removesuffix(INNER_SUFFIX): op
        for op in graph.ops
        if graph.tensors[op.outputs[0]].dtype == "INT8"
    }
    network = CutNetwork(onnx_bytes, set(writers))
    seen: dict[str, _Differences] = {}
    for image in images:
        runner.invoke(quantize_pixels(image[None], runner.input))
        values = {name: runner.value(writers[name].outputs[0]) for name in network.shapes}
        codes = {
            name: _as_trained(value, network.shapes[name], orders.get(name))
            for name, value in values.items()
        }
        wrong = [name for name, value in codes.items() if value is None]
        for name in wrong:
            label, found = writers[name].label(graph.tensors), list(values[name].shape)
            failures.add("edges", "op", label, network.shapes[name], found, NEXT)
        if wrong:
            break
        given = {name: value for name, value in codes.items() if value is not None}
        for name, expected in network.run(image.transpose(2, 0, 1)[None].copy(), given).items():
            lsb = np.abs(given[name].astype(np.int64) - expected)
            seen.setdefault(name, _Differences()).add(lsb)
    for name, differences in seen.items():
        allowed = 1 + int(multiplier(graph, writers[name]) / STEP_SHARE)
        if differences.max_lsb > allowed:
            failures.add(
                "edges",
                "op",
                writers[name].label(graph.tensors),
                f"at most {allowed} LSB from the trained operator",
                f"{differences.max_lsb} LSB",
                NEXT,
            )
    return _figures(seen, {name: op.label(graph.tensors) for name, op in writers.items()})


def _figures(seen: dict[str, _Differences], labels: dict[str, str]) -> Edges:
    if not seen:
        return Edges()
    name = max(seen, key=lambda key: (seen[key].max_lsb, -seen[key].exact / seen[key].elements))
    worst, rows = seen[name], seen.values()
    return Edges(
        edges=len(seen),
        max_lsb=worst.max_lsb,
        share_exact=sum(row.exact for row in rows) / sum(row.elements for row in rows),
        worst_op=WorstOp(labels[name], worst.max_lsb, worst.exact / worst.elements),
    )


def multiplier(graph: LiteGraph, op: LiteOp) -> float:
    """The output codes that one accumulator step moves, in the channel with the largest scale.

    0 for operators without weights.
    """
    tensors = [graph.tensors[index] for index in op.inputs if index >= 0]
    if len(tensors) < 3 or tensors[-1].dtype != "INT32" or op.name not in WEIGHTED_OPS:
        return 0.0
    source, weight = tensors[DATA_INPUT.get(op.name, 0)], tensors[1]
    if weight.data is None or not weight.scale.size:
        return 0.0
    return float(source.scale[0] * weight.scale.max() / graph.tensors[op.outputs[0]].scale[0])


def _as_trained(
    value: npt.NDArray[Any], shape: Sequence[int], order: Sequence[int] | None
) -> npt.NDArray[np.int8] | None:
    """A tensor of the file in the order and shape of the trained graph; None if it does not fit.

    The file may leave out axes of one element.
    """
    axes = natural(len(shape)) if order is None else tuple(order)
    sizes = [shape[axis] for axis in axes]
    if [size for size in value.shape if size > 1] != [size for size in sizes if size > 1]:
        return None
    inverse = [axes.index(axis) for axis in range(len(axes))]
    return np.ascontiguousarray(value.reshape(sizes).transpose(inverse))
