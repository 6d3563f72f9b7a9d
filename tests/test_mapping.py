"""Which operators map: the Edge TPU's statuses, NNAPI's rules by API level, and real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekd.assessment import nnapi_rules
from edgekd.assessment.check_record import FloatIsland
from edgekd.assessment.edgetpu import compiled_file, edgetpu_rules
from edgekd.assessment.edgetpu.status import (
    ANOTHER_SUBGRAPH,
    DATA_TYPE,
    DYNAMIC,
    LIMITATION,
    MAPPED,
    NOT_CONSTANT,
    NOT_SUPPORTED,
    RANK,
    STATUSES,
    TWO_D_OUTPUT,
    VERSION,
)
from edgekd.assessment.model_placement import float_islands, place_model
from edgekd.assessment.op_placement import partitions, place_each
from edgekd.settings.device_profiles import load_profile
from edgekd.tflite.flatbuffer import read
from tests.conftest import SHARED
from tests.lite_graphs import Net, T, separable

IMAGE = (1, 8, 8, 8)


def lonely(
    name: str, output: T, *extra: T, source: T | None = None, version: int = 1, **options: object
) -> Net:
    """A graph of one op."""
    net = Net(source.shape, source.dtype) if source else Net(IMAGE)
    net.op(name, output, *extra, version=version, **options)
    return net


# (what is built, op, status, words of the reason)
EDGETPU: list[tuple[Callable[[], Net], str, str]] = [
    (lambda: lonely("RELU6", T(IMAGE), version=2), MAPPED, ""),
    (lambda: lonely("HARD_SWISH", T(IMAGE)), NOT_SUPPORTED, "HARD_SWISH"),
    (lambda: lonely("LEAKY_RELU", T(IMAGE)), NOT_SUPPORTED, "LEAKY_RELU"),
    (
        lambda: lonely(
            "CONV_2D", T(IMAGE), T((8, 1, 1, 8), data="zeros"), T((8,), "INT32", "zeros"), version=6
        ),
        VERSION,
        "version 6",
    ),
    (lambda: lonely("DEQUANTIZE", T(IMAGE, "FLOAT32")), NOT_SUPPORTED, ""),
    (
        lambda: lonely("ADD", T(IMAGE, "FLOAT32"), T(IMAGE, "FLOAT32"), source=T(IMAGE, "FLOAT32")),
        DATA_TYPE,
        "float32",
    ),
    (lambda: lonely("QUANTIZE", T(IMAGE), source=T(IMAGE, "FLOAT32")), LIMITATION, "float32"),
    (lambda: lonely("RELU", T((2, 8, 8, 8)), source=T((2, 8, 8, 8))), RANK, "[2, 8, 8, 8]"),
    (lambda: lonely("RELU", T((1, 1, 8, 8, 8)), source=T((1, 1, 8, 8, 8))), MAPPED, ""),
    (
        lambda: lonely("CONV_2D", T(IMAGE), T((8, 1, 1, 8)), T((8,), "INT32", "zeros")),
        NOT_CONSTANT,
        "run time",
    ),
    (
        lambda: lonely(
            "FULLY_CONNECTED",
            T((4, 10)),
            T((10, 8), data="zeros"),
            T((10,), "INT32", "zeros"),
            source=T((4, 8)),
            version=4,
        ),
        TWO_D_OUTPUT,
        "[4, 10]",
    ),
    (
        lambda: lonely("SOFTMAX", T((1, 20_000)), source=T((1, 20_000)), version=2),
        LIMITATION,
        "16000",
    ),
    (lambda: lonely("MAX_POOL_2D", T(IMAGE), fusedActivationFunction=1), LIMITATION, "fused"),
    (
        lambda: lonely("MEAN", T((1, 8, 8, 1)), T((1,), "INT32", [3]), source=T((1, 8, 8, 6))),
        LIMITATION,
        "6 channels",
    ),
    (lambda: lonely("MEAN", T((1, 8, 8, 1)), T((1,), "INT32", [-1])), MAPPED, ""),
    (lambda: lonely("MEAN", T((8, 8, 8)), T((1,), "INT32", [0])), LIMITATION, "batch"),
    (
        lambda: lonely(
            "PAD", T((1, 10, 10, 8)), T((4, 2), "INT32", [[0, 0], [1, 1], [1, 1], [0, 0]])
        ),
        MAPPED,
        "",
    ),
    (
        lambda: lonely(
            "PAD", T((3, 8, 8, 8)), T((4, 2), "INT32", [[1, 1], [0, 0], [0, 0], [0, 0]])
        ),
        RANK,
        "",
    ),
    (lambda: lonely("SQUEEZE", T((8, 8)), source=T((1, 8, 8))), MAPPED, ""),
    (lambda: lonely("SQUEEZE", T((8, 8)), source=T((8, 1, 8))), LIMITATION, "leading"),
    (lambda: lonely("CONCATENATION", T((1, 8, 8, 16)), T(IMAGE, data="zeros")), MAPPED, ""),
    (
        lambda: lonely("CONCATENATION", T((1, 8, 8, 16)), T(IMAGE, data=np.ones(IMAGE))),
        LIMITATION,
        "zeros",
    ),
    (
        lambda: lonely(
            "RESHAPE",
            T((1, 512 * 512)),
            T((2,), "INT32", [1, 512 * 512]),
            source=T((1, 512, 512, 1)),
        ),
        LIMITATION,
        "large",
    ),
    (lambda: lonely("PRELU", T(IMAGE), T((1, 8, 8), data="zeros")), LIMITATION, "shared_axes"),
    (
        lambda: lonely(
            "STRIDED_SLICE",
            T((1, 4, 4, 8)),
            T((4,), "INT32", "zeros"),
            T((4,), "INT32", "zeros"),
            T((4,), "INT32", [1, 2, 2, 1]),
        ),
        LIMITATION,
        "strides",
    ),
    (
        lambda: lonely(
            "DEPTHWISE_CONV_2D",
            T(IMAGE),
            T((1, 3, 3, 8), data="zeros"),
            T((8,), "INT32", "zeros"),
            dilationWFactor=2,
            dilationHFactor=1,
        ),
        LIMITATION,
        "dilation",
    ),
]


@pytest.mark.parametrize(("build", "status", "words"), EDGETPU)
def test_one_op_on_the_edge_tpu(build: Callable[[], Net], status: str, words: str):
    (verdict,) = edgetpu_rules.map_graph(build().read())
    assert (verdict.status, verdict.mapped) == (status, status == MAPPED)
    assert words in verdict.why


def test_every_status_string_is_produced():
    cut = separable(hard_swish=True).read()
    seen = {v.status for build, *_ in EDGETPU for v in edgetpu_rules.map_graph(build().read())}
    assert seen | {v.status for v in edgetpu_rules.map_graph(cut)} == set(STATUSES)


def test_what_follows_the_first_refusal_stays_on_the_cpu():
    graph = separable(hard_swish=True).read()
    verdicts = edgetpu_rules.map_graph(graph)
    assert [v.status for v in verdicts[:3]] == [MAPPED, NOT_SUPPORTED, ANOTHER_SUBGRAPH]
    assert "HARD_SWISH #1" in verdicts[2].why
    assert not any(v.mapped for v in verdicts[1:])
    alone = edgetpu_rules.map_graph(graph, many_subgraphs=True)
    assert [v.op for v in alone if not v.mapped] == ["HARD_SWISH"]
    mapped = place_model(graph, load_profile("coral-usb"))
    assert mapped.first is not None
    assert (mapped.first.op, mapped.first.index) == ("HARD_SWISH", 1)
    assert 0 < mapped.share_of_macs < 1  # type: ignore[operator]


def test_a_quantize_of_a_float_input_does_not_end_the_partition():
    """As in real logs: QUANTIZE refused, every op after it mapped."""
    net = Net(IMAGE, "FLOAT32")
    net.op("QUANTIZE", T(IMAGE))
    net.conv(8)
    assert [v.mapped for v in edgetpu_rules.map_graph(net.read())] == [False, True]


def test_a_branch_beside_the_refused_op_still_maps():
    net = Net(IMAGE)
    trunk = net.conv(8)
    away = net.op("HARD_SWISH", T(IMAGE), inputs=[trunk])
    beside = net.op("RELU6", T(IMAGE), inputs=[trunk])
    net.op("ADD", T(IMAGE), inputs=[away, beside], version=2)
    assert [v.status for v in edgetpu_rules.map_graph(net.read())] == [
        MAPPED,
        NOT_SUPPORTED,
        MAPPED,
        ANOTHER_SUBGRAPH,
    ]


@pytest.mark.parametrize("signature", [(-1, 8, 8, 8), (-1, -1, -1, 8), (-1, -1, -1, -1)])
def test_a_signature_changes_nothing(signature: tuple[int, ...]):
    """A -1 in shape_signature, beside a static shape, makes no tensor dynamic."""
    net = Net(IMAGE, signature=signature)
    net.conv(8)
    net.op("RELU", T(IMAGE, signature=signature))
    assert [v.status for v in edgetpu_rules.map_graph(net.read())] == [MAPPED, MAPPED]


def computed_reshape() -> Net:
    """The Flatten of a batch that may be resized: SHAPE, STRIDED_SLICE and PACK give a shape."""
    net = Net(IMAGE, signature=(-1, 8, 8, 8))
    trunk = net.conv(8)
    net.op("SHAPE", T((4,), "INT32"), inputs=[trunk])
    one = T((1,), "INT32", [1])
    net.op("STRIDED_SLICE", T((), "INT32"), T((1,), "INT32", [0]), one, one, shrinkAxisMask=1)
    sizes = net.op("PACK", T((2,), "INT32"), T((), "INT32", 512), valuesCount=2)
    net.op("RESHAPE", T((1, 512)), inputs=[trunk, sizes])
    return net


@pytest.mark.parametrize(
    ("build", "culprit"),
    [
        (computed_reshape, "RESHAPE #4"),
        (lambda: lonely("WHERE", T((3, 4), "INT64"), source=T((8,), "BOOL")), "WHERE #0"),
        (lambda: lonely("RANGE", T((4,), "INT32"), *[T((), "INT32")] * 3), "RANGE #0"),
        (lambda: lonely("UNIQUE", T((4,)), source=T((8,))), "UNIQUE #0"),
        (lambda: lonely("RESIZE_BILINEAR", T(IMAGE), T((2,), "INT32")), "RESIZE_BILINEAR #0"),
        (lambda: lonely("PAD", T((1, 10, 8, 8)), T((4, 2), "INT32")), "PAD #0"),
    ],
)
def test_a_shape_that_is_computed_maps_nothing(build: Callable[[], Net], culprit: str):
    graph = build().read()
    placements = edgetpu_rules.map_graph(graph)
    assert {v.status for v in placements} == {DYNAMIC}
    assert culprit in placements[0].why


def test_constant_shapes_stay_static():
    net = Net(IMAGE)
    net.op("RESHAPE", T((1, 512)), T((2,), "INT32", [1, 512]))
    assert [v.status for v in edgetpu_rules.map_graph(net.read())] == [MAPPED]


def test_the_model_and_its_compiled_twin_agree():
    folder = SHARED / "data" / "tflite"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: compiled models are not part of the repository")
    source, compiled = (
        read((folder / f"mobilenet_v1_0.25_128_quant{end}.tflite").read_bytes())
        for end in ("", "_edgetpu")
    )
    predicted = place_model(source, load_profile("coral-usb"))
    found = compiled_file.read_back(compiled)
    assert compiled_file.is_compiled(compiled)
    assert not compiled_file.is_compiled(source)
    assert (found.edgetpu_ops, found.cpu_ops, found.cpu_tail) == (1, [], [])
    assert found.executable_bytes == 778_324
    assert len(predicted.fallback) == len(found.cpu_ops) == 0
    assert len(predicted.placements) == 31
    assert place_model(compiled, load_profile("coral-usb")).origin == "compiled file"


NNAPI: list[
    tuple[Callable[[], Net], int, int | None]
] = [  # (graph, last level refused, first level accepted)
    (
        lambda: lonely(
            "CONV_2D", T(IMAGE), T((8, 1, 1, 8), data="zeros"), T((8,), "INT32", "zeros"), version=3
        ),
        28,
        29,
    ),
    (
        lambda: lonely(
            "CONV_2D",
            T(IMAGE, "UINT8"),
            T((8, 1, 1, 8), "UINT8", "zeros"),
            T((8,), "INT32", "zeros"),
            source=T(IMAGE, "UINT8"),
        ),
        26,
        27,
    ),
    (
        lambda: lonely(
            "CONV_2D",
            T(IMAGE, "UINT8"),
            T((8, 1, 1, 8), "UINT8", "zeros"),
            source=T(IMAGE, "UINT8"),
        ),
        34,
        None,
    ),
    (lambda: lonely("MEAN", T((1, 1, 1, 8)), T((2,), "INT32", [1, 2]), version=2), 28, 29),
    (lambda: lonely("PAD", T((1, 10, 10, 8)), T((4, 2), "INT32", "zeros"), version=2), 28, 29),
    (lambda: lonely("QUANTIZE", T(IMAGE), source=T(IMAGE, "FLOAT32")), 29, 30),
    (lambda: lonely("QUANTIZE", T(IMAGE, "UINT8"), source=T(IMAGE, "FLOAT32")), 28, 29),
    (lambda: lonely("SUM", T((1, 1, 1, 8)), T((2,), "INT32", [1, 2])), 34, None),
    (lambda: lonely("DIV", T(IMAGE), T(IMAGE)), 34, None),
    (lambda: lonely("SPLIT_V", T(IMAGE), version=2), 29, 30),
    (lambda: lonely("MUL", T(IMAGE), T(IMAGE), version=3), 34, None),
    (
        lambda: lonely(
            "RESIZE_BILINEAR",
            T((1, 16, 16, 8)),
            T((2,), "INT32", [16, 16]),
            version=3,
            halfPixelCenters=True,
        ),
        29,
        30,
    ),
    (
        lambda: lonely("RESIZE_BILINEAR", T((1, 16, 16, 8)), T((2,), "INT32", [16, 16]), version=2),
        28,
        29,
    ),
    (
        lambda: lonely(
            "FULLY_CONNECTED",
            T((1, 8)),
            T((8, 8), data="zeros"),
            T((8,), "INT32", "zeros"),
            source=T((1, 8)),
            version=5,
            keepNumDims=True,
        ),
        29,
        30,
    ),
    (lambda: lonely("SOFTMAX", T((1, 2, 8)), source=T((1, 2, 8)), version=2), 28, 29),
    (
        lambda: lonely(
            "CONCATENATION", T((1, 8, 8, 16)), T(IMAGE), version=2, fusedActivationFunction=1
        ),
        34,
        None,
    ),
    (
        lambda: lonely(
            "AVERAGE_POOL_2D",
            T((1, 1, 1, 8)),
            source=T((1, 20, 20, 8)),
            version=2,
            filterWidth=20,
            filterHeight=20,
        ),
        34,
        None,
    ),
    (lambda: lonely("GELU", T(IMAGE)), 34, None),
]


@pytest.mark.parametrize(("build", "refused", "accepted"), NNAPI)
def test_nnapi_by_api_level(build: Callable[[], Net], refused: int, accepted: int | None):
    graph = build().read()
    by_level = {
        level: place_each(graph, nnapi_rules.judge_for(level), "ok")[0]
        for level in nnapi_rules.LEVELS
    }
    for level, verdict in by_level.items():
        assert verdict.mapped == (accepted is not None and level >= accepted), (level, verdict)
        if not verdict.mapped:
            assert verdict.status.startswith(("kUnsupported", "kNoActivation"))
            assert verdict.why
    assert refused in by_level or refused == 26


def test_a_named_accelerator_takes_large_pools_and_newer_muls():
    pool = lonely(
        "AVERAGE_POOL_2D",
        T((1, 1, 1, 8)),
        source=T((1, 20, 20, 8)),
        version=2,
        filterWidth=20,
        filterHeight=20,
    ).read()
    mul = lonely("MUL", T(IMAGE), T(IMAGE), version=3).read()
    for graph in (pool, mul):
        assert not place_each(graph, nnapi_rules.judge_for(30), "ok")[0].mapped
        assert place_each(graph, nnapi_rules.judge_for(30, "qti-dsp"), "ok")[0].mapped


def test_an_android_profile_of_ones_own_level(tmp_path: Path):
    path = tmp_path / "old.toml"
    path.write_text(
        'extends = "android-nnapi"\nname = "old"\ntitle = "old"\nmeasured_on_hardware = false\n'
        'api_level = { value = 27, source = "my phone" }\n'
    )
    graph = separable().read()
    assert len(place_model(graph, load_profile("android-nnapi")).fallback) == 0
    found = place_model(graph, load_profile(str(path)))
    assert found.first is not None
    assert (found.first.op, found.first.status) == ("CONV_2D", "kUnsupportedAndroidVersion")
    assert found.consumer == "NNAPI, API 27"


def test_delegate_parts_on_a_cpu():
    """HARD_SWISH has no int8 kernel in XNNPACK: it cuts the part in two and still runs."""
    found = place_model(separable(hard_swish=True).read(), load_profile("pi4"))
    assert (found.partitions, found.fallback) == (2, [])
    assert place_model(separable().read(), load_profile("pi4")).partitions == 1


def test_float_islands():
    net = Net(IMAGE)
    net.conv(8)
    net.op("DEQUANTIZE", T(IMAGE, "FLOAT32"))
    net.op("LOGISTIC", T(IMAGE, "FLOAT32"))
    net.op("TANH", T(IMAGE, "FLOAT32"))
    net.op("QUANTIZE", T(IMAGE))
    net.conv(8)
    assert float_islands(net.read()) == [FloatIsland(2, 3, 2)]
    assert float_islands(separable().read()) == []


def test_partitions_count_rounds_and_not_runs():
    """Two mapped branches beside an unmapped operator are one part.

    TFLite's partitioner takes operators as they become ready.
    """
    net = Net(IMAGE)
    start = net.last
    a = net.op("RELU", T(IMAGE), inputs=[start])
    b = net.op("HARD_SWISH", T(IMAGE), inputs=[start])
    c = net.op("RELU6", T(IMAGE), inputs=[a])
    net.op("ADD", T(IMAGE), inputs=[c, b], version=2)
    verdicts = place_each(net.read(), edgetpu_rules.judge, MAPPED)
    assert [v.mapped for v in verdicts] == [True, False, True, True]
    assert partitions(net.read(), verdicts) == 2
