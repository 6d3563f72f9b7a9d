"""The tensor arena: lifetimes by hand, and the planned peak against an interpreter's."""

from __future__ import annotations

import pytest

from edgekd.assessment import arena
from edgekd.tflite.flatbuffer import LiteGraph, read
from tests.conftest import SHARED
from tests.lite_graphs import Net, T, separable


def chain(*widths: int) -> LiteGraph:
    net = Net((1, 8, 8, 4))
    for width in widths:
        net.conv(width)
    return net.read()


def test_lives_by_hand():
    lives = {life.tensor: life for life in arena.lifetimes(chain(8, 16, 8))}
    first, *between, last = (lives[index] for index in sorted(lives))
    assert (first.first, first.last, first.bytes) == (0, arena.FOREVER, 256)
    assert [(life.first, life.last, life.bytes) for life in between] == [(0, 1, 512), (1, 2, 1024)]
    assert (last.first, last.last) == (2, arena.FOREVER)


def test_tensors_alive_together_never_overlap():
    for graph in (
        chain(8, 64, 8, 32, 128, 8),
        separable(squeeze_excite=True).read(),
        separable(hard_swish=True, side=128).read(),
    ):
        lives = arena.plan(graph).lives
        for one in lives:
            for other in lives:
                if one is not other and one.first <= other.last and other.first <= one.last:
                    assert (
                        one.offset + one.bytes <= other.offset
                        or other.offset + other.bytes <= one.offset
                    )
            assert one.offset % arena.ALIGNMENT == 0


def test_the_peak_is_at_least_the_busiest_op_and_at_most_the_sum():
    plan = arena.plan(separable(squeeze_excite=True).read())
    assert (
        plan.busiest_bytes
        <= plan.peak_bytes
        <= sum(life.bytes for life in plan.lives) + 64 * len(plan.lives)
    )


def test_a_squeeze_and_excite_branch_keeps_its_trunk_alive():
    graph = separable(squeeze_excite=True).read()
    mul = next(op for op in graph.ops if op.name == "MUL")
    trunk = next(life for life in arena.lifetimes(graph) if life.tensor == mul.inputs[0])
    assert trunk.last == mul.index


def interpreter(data: bytes):
    from edgekd.tflite.runtime import LiteRunner

    return LiteRunner(data, kernels="reference").interpreter


NETS = {
    "plain": lambda: separable(),
    "hard-swish": lambda: separable(hard_swish=True),
    "squeeze-excite": lambda: separable(squeeze_excite=True, side=96, width=24),
    "large": lambda: separable(side=224, width=40),
}


@pytest.mark.parametrize("name", NETS)
def test_the_plan_is_what_the_interpreter_allocates(name: str):
    """Within 2 %. The reference kernels need no scratch tensors and no delegate."""
    data = NETS[name]().bytes()
    assert arena.measure(interpreter(data)) == pytest.approx(
        arena.plan(read(data)).peak_bytes, rel=0.02
    )


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant", "tf2_mobilenet_v2_1.0_224_ptq"])
def test_real_models_too(name: str):
    path = SHARED / "data" / "tflite" / f"{name}.tflite"
    if not path.is_file():
        pytest.skip(f"{path} is not here: real models are not part of the repository")
    data = path.read_bytes()
    assert arena.measure(interpreter(data)) == pytest.approx(
        arena.plan(read(data)).peak_bytes, rel=0.02
    )


def test_measured_in_a_process_of_its_own():
    data = separable().bytes()
    assert arena.measure_apart(data) == arena.Allocation(arena.measure(interpreter(data)))


def test_a_file_that_the_interpreter_refuses_is_not_our_end():
    net = Net((1, 8, 8, 8))
    net.op(
        "CONV_2D",
        T((1, 8, 8, 8)),
        T((8, 1, 1, 7), data="zeros"),
        T((8,), "INT32", "zeros"),
        version=3,
        strideH=1,
        strideW=1,
        dilationHFactor=1,
        dilationWFactor=1,
    )  # channels that do not fit
    found = arena.measure_apart(net.bytes())
    assert found.arena_bytes is None
    assert "input_channel % filter_input_channel" in found.refusal  # the interpreter's own words
