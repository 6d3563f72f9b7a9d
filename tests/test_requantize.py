"""The stated arithmetic of each kernel family is the runtime's own, bit for bit, on every layer of
a MobileNetV2.
"""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.export.model_builder import ModelBuilder
from edgekd.export.onnx_export import export
from edgekd.export.tflite_convert import convert
from edgekd.networks import builders
from edgekd.proof import exact_kernels
from edgekd.proof.exact_kernels import KERNELS
from edgekd.proof.kernel_runs import FAMILIES
from edgekd.proof.operands import ACTIVATION_BOUNDS, Operand
from edgekd.tflite.int8_rules import HARD_SWISH_RATIO, WEIGHTED_OPS, Range, range_from_minmax
from edgekd.tflite.runtime import LiteRunner
from tests.requantize import ARITHMETIC, exact, fixed_point, hard_swish, quantize_multiplier
from tests.trained import calibrated


@pytest.fixture(scope="module")
def model() -> bytes:
    qnet = calibrated("mobilenetv2_035", 64)
    return bytes(convert(export(qnet, builders.create(qnet.arch, qnet.options))).tflite)


@pytest.mark.parametrize("family", FAMILIES)
def test_arithmetic_of_a_family(model: bytes, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = LiteRunner(model, kernels=FAMILIES[family], keep="everything")
    graph = runner.graph
    runner.invoke(np.random.default_rng(0).integers(-128, 128, (1, 64, 64, 3)).astype(np.int8))
    sums: list[np.ndarray] = []
    finish = exact_kernels._finish_layer

    def listen(total: np.ndarray, *rest: object) -> np.ndarray:
        sums.append(total)
        return finish(total, *rest)

    monkeypatch.setattr(exact_kernels, "_finish_layer", listen)
    seen = differing = 0
    for op in graph.ops:
        if op.name not in WEIGHTED_OPS:
            continue
        operands = [
            Operand(
                graph.tensors[i],
                runner.value(i) if graph.tensors[i].data is None else graph.tensors[i].data,
            )
            for i in op.inputs
        ]
        output = graph.tensors[op.outputs[0]]
        KERNELS[op.name](op, operands, output)
        acc = np.rint(sums[-1]).astype(np.int64) + operands[2].codes
        scales = (operands[0].scale, operands[1].tensor.scale, float(output.scale[0]))
        zero = int(output.zero_point[0])
        low, high = (
            np.rint(bound / scales[2]) + zero
            for bound in ACTIVATION_BOUNDS[op.options["fusedActivationFunction"]]
        )
        found = runner.value(output.index)
        # ruy's ties depend on the instruction set: half up was seen with AVX-512, the reference's
        # rule may hold elsewhere
        ways = {ARITHMETIC[family, op.name], *([fixed_point] if family == "builtin" else [])}
        tried = [way(acc, *scales) + zero for way in ways]
        same = [
            codes
            for codes in tried
            if np.array_equal(
                np.clip(codes, max(low, -128), min(high, 127)).reshape(found.shape), found
            )
        ]
        assert same, op.label(graph.tensors)
        codes = same[0]
        seen += found.size
        differing += int((codes != exact(acc, *scales) + zero).sum())
        assert np.abs(codes - exact(acc, *scales) - zero).max() <= 1
    assert seen > 100_000
    if family != "xnnpack":
        assert differing > 0, "two roundings are not one"


@pytest.mark.parametrize("kernels", ["builtin", "reference"])
def test_arithmetic_of_hard_swish(kernels: str) -> None:
    """All 256 codes in random ranges. Some output steps are as fine as a file may have."""
    rng = np.random.default_rng(0)
    codes = np.arange(-128, 128).astype(np.int8)[None]
    differing = 0
    for draw in range(60):
        low, high = -(10 ** rng.uniform(-1.5, 1.5)), 10 ** rng.uniform(-1.5, 1.5)
        source = range_from_minmax(low, high)
        real = np.linspace(low, high, 1000)
        swished = real * np.clip(real + 3, 0, 6) / 6
        target = range_from_minmax(float(swished.min()), float(swished.max()))
        if draw % 3 == 0:
            target = Range(
                float(np.float32(source.scale / HARD_SWISH_RATIO)), int(rng.integers(-128, 128))
            )
        builder = ModelBuilder()
        ports = [
            builder.tensor(
                name, codes.shape, "INT8", scale=[grid.scale], zero_point=[grid.zero_point]
            )
            for name, grid in (("in", source), ("out", target))
        ]
        builder.op("HARD_SWISH", ports[:1], ports[1:], None)
        runner = LiteRunner(builder.finish("in", "out", "test"), kernels=kernels)
        found = runner.invoke(codes).astype(np.int64)
        assert np.array_equal(hard_swish(codes, source, target), found), (source, target)
        off = np.abs(
            found
            - KERNELS["HARD_SWISH"](
                runner.graph.ops[0], [Operand(runner.input, codes)], runner.output
            )
        )
        assert off.max() <= 1
        differing += int(off.sum())
    assert differing > 0, "fixed point is not exact"


def test_hard_swish_beyond_its_kernel() -> None:
    with pytest.raises(ValueError, match="1/128"):
        hard_swish(np.zeros(1, np.int8), Range(1.0, 0), Range(1 / 200, 0))


@pytest.mark.parametrize("value", [1e-9, 0.001, 0.5, 0.999999999999, 1.0, 200.0])
def test_a_multiplier_is_held_in_31_bits(value: float) -> None:
    q, shift = quantize_multiplier(value)
    assert 2**30 <= q < 2**31
    assert abs(q * 2.0 ** (shift - 31) / value - 1) < 2.0**-31
