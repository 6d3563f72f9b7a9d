"""Every weight and bias code of the file against the rounded trained values.

An int8 weight code is round(weight / scale); an int32 bias code is round(bias / (input scale *
weight scale)). Scales are compared bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgekd.proof.certificate_record import CodeCounts
from edgekd.proof.expected_model import Claims, natural
from edgekd.proof.failures import Failures
from edgekd.tflite.flatbuffer import LiteGraph, LiteTensor
from edgekd.tflite.int8_rules import WEIGHTED_OPS

Part = Literal["weights", "biases"]
DTYPES: dict[Part, str] = {"weights": "INT8", "biases": "INT32"}


@dataclass(frozen=True)
class LayerCodes:
    """What the checks of all layers counted."""

    weights: CodeCounts
    biases: CodeCounts


@dataclass(frozen=True)
class _Constant:
    """One constant that the file must hold: its codes in TFLite's layout; its scales,
    float32 [n].
    """

    part: Part
    name: str
    codes: npt.NDArray[Any]
    scale: npt.NDArray[np.float32]


def check_layers(claims: Claims, graph: LiteGraph, failures: Failures) -> LayerCodes:
    """Compare the weights and biases of every layer, and check that the file has no other layer."""
    tensors = graph.by_name()
    expected = [
        row
        for layer in claims.layers
        for row in (
            _Constant(
                "weights",
                f"{layer.name}.weight",
                _to_lite_layout(layer.weight, layer.op),
                layer.scale,
            ),
            _Constant("biases", f"{layer.name}.bias", layer.bias, layer.bias_scale),
        )
    ]
    identical = [_identical(row, tensors.get(row.name), failures) for row in expected]
    known = {row.name for row in expected}
    for op in graph.ops:
        if op.name in WEIGHTED_OPS:
            name = graph.tensors[op.inputs[1]].name
            if name not in known:
                label = op.label(graph.tensors)
                failures.add("weights", "op", label, "a trained layer", name)
    return LayerCodes(
        _counts("weights", expected, identical), _counts("biases", expected, identical)
    )


def check_operands(
    claims: Claims,
    correspondence: Mapping[str, str],
    orders: Mapping[str, Sequence[int]],
    graph: LiteGraph,
    failures: Failures,
) -> None:
    """Compare every constant operand in the file with its trained codes, bit for bit.

    A file may hold an operand in several orders of its axes (`orders`, by the tensor's name). No
    other constant may hold int8 codes in a range.
    """
    known = {claim.name: claim for claim in claims.operands}
    layers = {f"{layer.name}.weight" for layer in claims.layers}
    lowest = {op.inputs[2] for op in graph.ops if op.name == "PADV2"}
    seen: set[str] = set()
    for tensor in graph.tensors:
        if tensor.data is None or tensor.dtype != "INT8" or tensor.index in lowest:
            continue
        claim = known.get(correspondence.get(tensor.name, tensor.name))
        if claim is None:
            if tensor.name not in layers:
                failures.add("weights", "tensor", tensor.name, "a trained constant", "none")
            continue
        seen.add(claim.name)
        axes = orders.get(tensor.name, natural(claim.codes.ndim))
        codes = claim.codes.transpose(axes).reshape(-1)
        found = tensor.data.reshape(-1)
        same = found.size == codes.size and bool((found == codes).all())
        learned = {"scale": claim.range.scale, "zero_point": claim.range.zero_point}
        stated = {"scale": tensor.scale.tolist(), "zero_point": tensor.zero_point.tolist()}
        if not same:
            failures.add("weights", "tensor", tensor.name, "its trained codes", "other codes")
        if stated != {"scale": [learned["scale"]], "zero_point": [learned["zero_point"]]}:
            failures.add("ranges", "tensor", tensor.name, learned, stated)
    for name in known.keys() - seen:
        failures.add("weights", "tensor", name, "a constant in the file", "none")


def _counts(part: Part, expected: list[_Constant], identical: list[int]) -> CodeCounts:
    rows = [
        (row.codes.size, same)
        for row, same in zip(expected, identical, strict=True)
        if row.part == part
    ]
    return CodeCounts(len(rows), sum(same for _, same in rows), sum(size for size, _ in rows))


def _to_lite_layout(codes: npt.NDArray[Any], op: str) -> npt.NDArray[Any]:
    """From torch's OIHW (or O1HW of a depthwise layer) to TFLite's OHWI (or 1HWO).

    The trained network holds the weight of a transposed convolution as OIHW, too.
    """
    if op in ("CONV_2D", "TRANSPOSE_CONV"):
        return codes.transpose(0, 2, 3, 1)
    return codes.transpose(1, 2, 3, 0) if op == "DEPTHWISE_CONV_2D" else codes


def _identical(expected: _Constant, tensor: LiteTensor | None, failures: Failures) -> int:
    """How many codes of one constant are identical; each kind of difference is a failure."""
    dtype, codes = DTYPES[expected.part], expected.codes
    if (
        tensor is None
        or tensor.data is None
        or tensor.data.shape != codes.shape
        or tensor.dtype != dtype
    ):
        failures.add(
            expected.part,
            "tensor",
            expected.name,
            {"shape": list(codes.shape), "dtype": dtype},
            "none" if tensor is None else {"shape": list(tensor.shape), "dtype": tensor.dtype},
        )
        return 0
    same = tensor.data == codes
    if not same.all():
        first = tuple(int(i) for i in np.argwhere(~same)[0])
        failures.add(
            expected.part,
            "tensor",
            expected.name,
            {"code": int(codes[first]), "at": list(first)},
            {"code": int(tensor.data[first]), "differing": int((~same).sum())},
        )
    if not _same_scales(tensor.scale, expected.scale) or tensor.zero_point.any():
        _add_scale_failure(expected, tensor, failures)
    return int(same.sum())


def _add_scale_failure(expected: _Constant, tensor: LiteTensor, failures: Failures) -> None:
    """Name the first channel that differs; the last one when the numbers of scales differ."""
    found, claimed = tensor.scale, expected.scale
    channel = int(np.argmax(found != claimed)) if found.shape == claimed.shape else -1
    failures.add(
        expected.part,
        "tensor",
        expected.name,
        {"scale": float(claimed[channel]), "channel": channel, "scales": len(claimed)},
        {
            "scale": float(found[channel]) if found.size else None,
            "scales": int(found.size),
            "zero_points": "not all 0" if tensor.zero_point.any() else "0",
        },
    )


def _same_scales(found: npt.NDArray[np.float32], claimed: npt.NDArray[np.float32]) -> bool:
    """Compare bit for bit.

    One scale equals the same scale repeated for every channel, as ONNX writes it.
    """
    if found.size == 1 and len(set(claimed.tolist())) == 1:
        claimed = claimed[:1]
    return found.tobytes() == claimed.tobytes()
