"""Each operator alone, in random ranges and in every kernel family, is within its stated
tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgekd.core.records import to_json
from edgekd.export.model_builder import ModelBuilder
from edgekd.proof.exact_kernels import KERNELS
from edgekd.proof.failures import Failures
from edgekd.proof.kernel_check import check_ops
from edgekd.proof.kernel_runs import FAMILIES
from edgekd.proof.kernel_tolerances import TOLERANCES
from edgekd.proof.operands import Operand
from edgekd.tflite.flatbuffer import read
from edgekd.tflite.int8_rules import Range, range_from_minmax
from edgekd.tflite.runtime import LiteRunner
from tests.faulty import build

PX, CHANNELS, DRAWS = 8, 16, 12  # every draw sees 1,024 codes in new ranges


class One:
    """A file of one operator, which reads a map of int8 codes in a random range."""

    def __init__(self, op: str, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder, self.op = ModelBuilder(), op
        self.source = self.range(-6, 6)

    def range(self, low: float, high: float) -> Range:
        ends = np.sort(self.rng.uniform(low, high, 2))
        return range_from_minmax(min(float(ends[0]), 0.0), max(float(ends[1]), 0.1))

    def tensor(self, name: str, shape: tuple[int, ...], grid: Range) -> int:
        return self.builder.tensor(
            name, shape, "INT8", scale=[grid.scale], zero_point=[grid.zero_point]
        )

    def file(
        self,
        inputs: list[int],
        shape: tuple[int, ...],
        target: Range,
        options: dict[str, Any] | None,
    ) -> bytes:
        self.builder.op(self.op, inputs, [self.tensor("output", shape, target)], options)
        return self.builder.finish("input", "output", "one op")

    def map(self) -> int:
        return self.tensor("input", (1, PX, PX, CHANNELS), self.source)


WHOLE = (1, PX, PX, CHANNELS)


def unary(one: One) -> bytes:
    reach = one.source.scale * 255
    return one.file(
        [one.map()],
        WHOLE,
        range_from_minmax(-0.4 if one.op == "HARD_SWISH" else 0.0, reach / 2),
        None,
    )


def fixed(one: One) -> bytes:
    return one.file([one.map()], WHOLE, Range(1 / 256, -128), None)


def softmax(one: One) -> bytes:
    return one.file([one.map()], WHOLE, Range(1 / 256, -128), {"beta": 1.0})


def pairwise(one: One) -> bytes:
    source = one.map()
    top = one.source.scale * 128
    target = one.range(-2 * top, 2 * top) if one.op == "ADD" else one.range(-top * top, top * top)
    return one.file([source, source], WHOLE, target, {"fusedActivationFunction": 0})


def mean(one: One) -> bytes:
    axes = one.builder.tensor("axes", (2,), "INT32", data=np.array([1, 2], np.int32))
    return one.file([one.map(), axes], (1, 1, 1, CHANNELS), one.range(-1, 1), {"keepDims": True})


def pool(one: One) -> bytes:
    return one.file(
        [one.map()],
        (1, 4, 4, CHANNELS),
        one.source,
        {
            "padding": 1,
            "strideH": 2,
            "strideW": 2,
            "filterHeight": 2,
            "filterWidth": 2,
            "fusedActivationFunction": 0,
        },
    )


OPS: dict[str, Callable[[One], bytes]] = {
    "HARD_SWISH": unary,
    "RELU": unary,
    "RELU6": unary,
    "LOGISTIC": fixed,
    "SOFTMAX": softmax,
    "ADD": pairwise,
    "MUL": pairwise,
    "MEAN": mean,
    "AVERAGE_POOL_2D": pool,
    "MAX_POOL_2D": pool,
}


def worst(op: str, family: str) -> int:
    largest = 0
    for seed in range(DRAWS):
        runner = LiteRunner(OPS[op](One(op, seed)), kernels=FAMILIES[family])
        graph = runner.graph
        codes = np.random.default_rng(seed).integers(-128, 128, WHOLE).astype(np.int8)
        found = runner.invoke(codes).astype(np.int64)
        (only,) = graph.ops
        operands = [
            Operand(
                graph.tensors[index],
                codes if graph.tensors[index].data is None else graph.tensors[index].data,
            )
            for index in only.inputs
        ]
        expected = KERNELS[op](only, operands, graph.tensors[only.outputs[0]])
        largest = max(largest, int(np.abs(found - expected).max()))
    return largest


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("op", OPS)
def test_an_op_is_within_its_tolerance(op: str, family: str) -> None:
    assert worst(op, family) <= TOLERANCES[op].lsb


def test_an_op_that_is_off_is_named_with_its_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that adds 2 stands for a broken kernel of the runtime."""
    built = build("Branches")
    add = KERNELS["ADD"]
    monkeypatch.setitem(
        KERNELS, "ADD", lambda op, inputs, output: np.minimum(add(op, inputs, output) + 2, 127)
    )
    failures = Failures()
    body = to_json(check_ops(built.lite.tflite, built.pixels[:1], failures, 1))
    assert {row.op for row in failures.rows} == {"ADD #3 -> relu"}
    assert {str(row.found).rpartition(" ")[2] for row in failures.rows} == set(FAMILIES)
    assert body["worst_op"]["op"] == "ADD #3 -> relu"
    graph = read(built.lite.tflite)
    assert [row["op"] for row in body["by_op"]] == [op.label(graph.tensors) for op in graph.ops]
    for row in body["by_op"]:
        assert row["why"]
        assert sum(row["xnnpack"]) == int(
            np.prod(graph.tensors[graph.ops[body["by_op"].index(row)].outputs[0]].shape)
        )


def test_the_certificate_says_what_the_delegate_leaves_out() -> None:
    """XNNPACK takes every operator of this network except PADV2."""
    body = build("NegativePool").certificate()
    left = body["op_local"]["families"]["xnnpack"]["not_delegated"]
    assert left == ["PADV2 #1 -> max/pad"]
    assert "not_delegated" not in body["op_local"]["families"]["builtin"]
