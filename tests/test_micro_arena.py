"""TensorFlow Lite Micro: the arena by hand, a profile's limits, and what is said about them."""

from __future__ import annotations

import dataclasses

import pytest

from edgekd.assessment.assess import assess
from edgekd.assessment.graph_check import check_graph
from edgekd.assessment.micro.kernel_scratch import KernelLibrary, scratch_buffers
from edgekd.assessment.micro.micro_arena import Buffer, greedy_peak, micro_arena
from edgekd.assessment.micro.struct_sizes import NODE, TENSOR, PointerBytes, size_of
from edgekd.core.records import present
from edgekd.settings.device_profiles import load_profile
from edgekd.tflite.flatbuffer import LiteGraph, read
from tests.lite_graphs import Net, T, separable
from tests.one_op_files import one_op_file

MICRO = ("esp32-s3", "rp2350", "stm32h7")


def test_structures_are_laid_out_as_c_does() -> None:
    assert [size_of("bi", pointer) for pointer in PointerBytes] == [8, 8]
    assert [size_of("bpb", pointer) for pointer in PointerBytes] == [12, 24]
    assert [size_of(NODE, pointer) for pointer in PointerBytes] == [32, 64]
    assert [size_of(TENSOR, pointer) for pointer in PointerBytes] == [40, 64]
    assert size_of("", PointerBytes.DEVICE) == 0


def test_buffers_that_never_meet_share_their_place() -> None:
    """By hand: 64 | 32 live at different times; 48 meets both, and lies behind the larger."""
    assert greedy_peak([Buffer(64, 0, 1), Buffer(32, 2, 3)]) == 64
    assert greedy_peak([Buffer(64, 0, 1), Buffer(32, 2, 3), Buffer(48, 1, 2)]) == 112
    # The gap of 16 between 0..32 and 48..64 holds the last one.
    meeting = [Buffer(32, 0, 9), Buffer(64, 0, 1), Buffer(16, 2, 9), Buffer(16, 3, 3)]
    assert greedy_peak(meeting) == 96
    assert greedy_peak([]) == 0


def test_the_arena_of_one_convolution_by_hand() -> None:
    arena = micro_arena(read(one_op_file("CONV_2D")), KernelLibrary.REFERENCE)
    assert arena.head == 8 * 8 * 16 + 8 * 8 * 24
    # 488 fixed, 4 tensors of 12, 1 node of 32, 28 of options, OpDataConv of 64, 2 arrays of 24
    # int32, 16 for each port, and two tensors of 40 with 12 and 8 of quantization.
    assert arena.tail == pytest.approx(488 + 48 + 32 + 28 + 64 + 192 + 32 + 120, abs=32)
    assert arena.bytes == arena.head + arena.tail
    assert micro_arena(read(one_op_file("CONV_2D")), KernelLibrary.REFERENCE, PointerBytes.DESKTOP)


@pytest.mark.parametrize(
    ("op", "library", "sizes"),
    [
        ("CONV_2D", "reference", []),
        ("MEAN", "reference", [64, 16, 8]),  # 16 sums, 4 dimensions, 2 axes
        ("TRANSPOSE_CONV", "reference", [16 * 16 * 24 * 4]),
        ("CONV_2D", "cmsis-nn", [2 * 9 * 16 * 2]),  # two columns of 3 x 3 x 16 in int16
        ("DEPTHWISE_CONV_2D", "cmsis-nn", []),  # a 3 x 3 filter needs none
        # 16-channel filters, twice: 9 * 16 * 24 and rows of 48; the input, padded by 1 all around,
        # and once more for the edge; 32 to align; one int32 per filter.
        ("CONV_2D", "esp-nn", [100 * 16 + 3456 + 3456 + 100 * 16 + 32 + 96]),
        ("DEPTHWISE_CONV_2D", "esp-nn", [144 + 100 * 16 + 16]),
        ("ADD", "esp-nn", []),
    ],
)
def test_kernels_buffers_by_hand(op: str, library: str, sizes: list[int]) -> None:
    graph = read(one_op_file(op))
    assert scratch_buffers(graph, graph.ops[0], KernelLibrary(library)) == sizes


def pointwise(width: int) -> LiteGraph:
    net = Net((1, 8, 8, 16))
    net.conv(width)
    return net.read()


def test_a_wide_last_layer_is_what_esp_nn_copies() -> None:
    graph = pointwise(512)
    (size,) = scratch_buffers(graph, graph.ops[0], KernelLibrary.ESP_NN)
    assert size == 16 * 512 + 16 * 16 + 32
    assert scratch_buffers(graph, graph.ops[0], KernelLibrary.CMSIS_NN) == []


@pytest.mark.parametrize("name", MICRO)
def test_a_profile_of_a_microcontroller_names_its_limits(name: str) -> None:
    profile = load_profile(name)
    assert 0 not in (profile.arena_kib, profile.flash_kib)
    assert profile.micro_kernels
    assert profile.io_dtype == "int8"
    assert "GELU" not in profile.ops
    found = assess(separable().read(), profile)
    assert found.loading.by.startswith("TensorFlow Lite Micro")
    assert found.memory.arena_bytes == sum(
        present(size) or 0
        for size in (found.memory.micro_planned_bytes, found.memory.micro_persistent_bytes)
    )
    assert found.predicted.latency_ms is None


def test_a_model_that_does_not_fit_says_what_would() -> None:
    """The next step is an edit of the network, and not another device."""
    small = dataclasses.replace(load_profile("rp2350"), arena_kib=40, flash_kib=32)
    graph = separable(side=96, width=24).read()
    check = check_graph(graph, small, "x", file_bytes=20_000)
    arena, flash = check.failures
    assert "KiB, most of it at op #" in arena
    assert "the profile allows 40 KiB (arena_kib)" in arena
    assert flash == ("the model takes 20 KiB of flash, the profile allows 16 KiB (50% of 32 KiB)")
    assert check.memory.limit_bytes == 40 * 1024
    smaller = next(edit for edit in check.edits if edit.key == "input")
    assert "KiB less arena" in smaller.why
    assert not check_graph(graph, load_profile("stm32h7"), "x", file_bytes=20_000).failures


def test_gelu_is_refused_and_uint8_does_not_map() -> None:
    profile = load_profile("esp32-s3")
    gelu = check_graph(read(one_op_file("GELU")), profile, "x", file_bytes=1, finished=True)
    assert not present(gelu.loading).loads
    assert "GELU has version 2, and TensorFlow Lite Micro of October 2026" in gelu.failures[0]
    assert "does not have this operator" in gelu.failures[0]
    assert "replace these operators" in present(gelu.next_step)
    net = Net((1, 8, 8, 4), "UINT8")
    net.op("RELU", T((1, 8, 8, 4), "UINT8"))
    (row,) = check_graph(net.read(), profile, "x", file_bytes=1).mapped.fallback
    assert row.why == "its kernel takes int8, and not uint8"
