"""The statuses in the words of the devices' own tools, written out here from their sources.

Each status is the answer to some graph, and there is no other. Edge TPU: strings of real
edgetpu_compiler logs. NNAPI: Validate of nnapi_delegate.cc, by operator and API level.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from edgekd.assessment import nnapi_rules
from edgekd.assessment.graph_check import check_graph
from edgekd.assessment.model_placement import place_model
from edgekd.assessment.op_placement import place_each
from edgekd.settings.device_profiles import load_profile
from tests.lite_graphs import Net, T, separable

IMAGE = (1, 8, 8, 8)
FLOAT = "FLOAT32"


def one(
    name: str, output: T, *extra: T, source: T | None = None, version: int = 1, **options: Any
) -> Net:
    """A graph of one op."""
    net = Net(source.shape, source.dtype) if source else Net(IMAGE)
    net.op(name, output, *extra, version=version, **options)
    return net


WORDS_OF_THE_EDGE_TPU: dict[str, Net] = {
    "Mapped to Edge TPU": separable(),
    "More than one subgraph is not supported": separable(hard_swish=True),
    "Operation is otherwise supported, but not mapped due to some unspecified limitation": one(
        "SOFTMAX", T((1, 20_000)), source=T((1, 20_000)), version=2
    ),
    "Operation is working on an unsupported data type": one(
        "RELU", T(IMAGE, FLOAT), source=T(IMAGE, FLOAT)
    ),
    "Operation version not supported": one(
        "CONV_2D", T(IMAGE), T((8, 1, 1, 8), data="zeros"), T((8,), "INT32", "zeros"), version=6
    ),
    "Tensor has unsupported rank (up to 3 innermost dimensions mapped)": one(
        "RELU", T((2, 8, 8, 8)), source=T((2, 8, 8, 8))
    ),
    "Filter, bias, or other param is not constant at compile-time": one(
        "CONV_2D", T(IMAGE), T((8, 1, 1, 8)), T((8,), "INT32", "zeros")
    ),
    "For example, a fully-connected or softmax layer with 2D output": one(
        "FULLY_CONNECTED",
        T((4, 10)),
        T((10, 8), data="zeros"),
        T((10,), "INT32", "zeros"),
        source=T((4, 8)),
        version=4,
    ),
    "Operation not supported": one("HARD_SWISH", T(IMAGE)),
    "Attempting to use a delegate that only supports static-sized tensors with a graph that has "
    "dynamic-sized tensors.": one("RESHAPE", T((1, 512)), T((2,), "INT32")),
}


@pytest.mark.parametrize("words", WORDS_OF_THE_EDGE_TPU)
def test_the_edge_tpus_words(words: str) -> None:
    """In the whole answer of `edgekd check`, not in the rules alone."""
    graph = WORDS_OF_THE_EDGE_TPU[words].read()
    mapped = place_model(graph, load_profile("coral-usb"))
    said = {verdict.status for verdict in mapped.placements}
    assert words in said
    assert said <= set(WORDS_OF_THE_EDGE_TPU)
    answer = check_graph(graph, load_profile("coral-usb"), "a graph").mapped
    if words == "Operation version not supported":
        # The compiler cannot even read such a file, and says so of the operator by its name.
        words = "Didn't find op for builtin opcode 'CONV_2D' version '6'"
    if words != "Mapped to Edge TPU":
        assert words in {row.status for row in answer.fallback}


def conv(name: str) -> list[Any]:
    return [
        T((8, 1, 1, 8) if name == "CONV_2D" else (1, 1, 1, 8), data="zeros"),
        T((8,), "INT32", "zeros"),
    ]


AXES = T((2,), "INT32", [1, 2])
# op: (what else it reads, its output's shape, least and greatest version,
#      first API level for float32, uint8, int8; None where the delegate never takes it)
NNAPI: dict[
    str, tuple[list[Any], tuple[int, ...], int, int, int | None, int | None, int | None]
] = {
    "ADD": ([], IMAGE, 1, 2, 27, 27, 27),
    "SUB": ([], IMAGE, 1, 3, 28, 29, 29),
    "MUL": ([], IMAGE, 1, 2, 27, 27, 27),
    "DIV": ([], IMAGE, 1, 1, 28, None, None),
    "AVERAGE_POOL_2D": ([], IMAGE, 1, 2, 27, 27, 27),
    "MAX_POOL_2D": ([], IMAGE, 1, 2, 27, 27, 27),
    "CONV_2D": (conv("CONV_2D"), IMAGE, 1, 5, 27, 27, 29),
    "DEPTHWISE_CONV_2D": (conv("DEPTHWISE_CONV_2D"), IMAGE, 1, 3, 27, 27, 29),
    "FULLY_CONNECTED": (
        [T((8, 8), data="zeros"), T((8,), "INT32", "zeros")],
        (1, 8),
        1,
        5,
        27,
        27,
        29,
    ),
    "SOFTMAX": ([], IMAGE, 2, 2, 27, 27, 27),
    "RESHAPE": ([T((2,), "INT32", [1, 512])], (1, 512), 1, 1, 27, 27, 27),
    "RESIZE_BILINEAR": ([T((2,), "INT32", [8, 8])], IMAGE, 1, 3, 27, 29, 29),
    "RESIZE_NEAREST_NEIGHBOR": ([T((2,), "INT32", [8, 8])], IMAGE, 1, 3, 29, 29, 29),
    "CONCATENATION": ([], (1, 8, 8, 16), 1, 2, 27, 27, 27),
    "MEAN": ([AXES], (1, 1, 1, 8), 1, 2, 28, 29, 29),
    "PAD": ([T((4, 2), "INT32", "zeros")], IMAGE, 1, 2, 28, 29, 29),
    "PADV2": ([T((4, 2), "INT32", "zeros")], IMAGE, 1, 2, 29, 29, 29),
    "RELU": ([], IMAGE, 1, 2, 27, 27, 27),
    "RELU6": ([], IMAGE, 1, 2, 27, 27, 27),
    "RELU_N1_TO_1": ([], IMAGE, 1, 2, 27, 27, 27),
    "LOGISTIC": ([], IMAGE, 1, 2, 27, 27, 27),
    "TANH": ([], IMAGE, 1, 2, 27, 29, 29),
    "HARD_SWISH": ([], IMAGE, 1, 9, 27, 27, 27),
    "TRANSPOSE": ([T((4,), "INT32", [0, 1, 2, 3])], IMAGE, 1, 2, 28, 28, 28),
    "STRIDED_SLICE": (
        [
            T((4,), "INT32", [0, 0, 0, 0]),
            T((4,), "INT32", [1, 8, 8, 8]),
            T((4,), "INT32", [1, 1, 1, 1]),
        ],
        IMAGE,
        1,
        2,
        28,
        28,
        28,
    ),
    "SLICE": ([T((4,), "INT32", "zeros"), T((4,), "INT32", [1, 8, 8, 8])], IMAGE, 1, 2, 29, 29, 29),
    "SQUEEZE": ([], (8, 8, 8), 1, 1, 28, 28, 28),
    "EXPAND_DIMS": ([T((1,), "INT32", [1])], (1, 1, 8, 8, 8), 1, 1, 29, 29, 29),
    "SPLIT": ([], IMAGE, 3, 3, 29, 29, 30),
    "SPLIT_V": ([], IMAGE, 2, 2, 30, 30, 30),
    "PACK": ([], (1, 1, 8, 8, 8), 2, 2, 30, None, 30),
    "MAXIMUM": ([], IMAGE, 1, 3, 29, 29, 29),
    "MINIMUM": ([], IMAGE, 1, 3, 29, 29, 29),
    "REDUCE_MAX": ([AXES], (1, 1, 1, 8), 1, 2, 29, 29, 29),
    "REDUCE_MIN": ([AXES], (1, 1, 1, 8), 1, 2, 29, 29, 29),
    "SUM": ([AXES], (1, 1, 1, 8), 1, 1, 29, None, None),
    "REDUCE_PROD": ([AXES], (1, 1, 1, 8), 1, 1, 29, None, None),
    "PRELU": ([], IMAGE, 1, 1, 29, 29, 29),
    "LEAKY_RELU": ([], IMAGE, 1, 1, 29, 29, 29),
    "ELU": ([], IMAGE, 1, 1, 30, None, None),
    "L2_NORMALIZATION": ([], IMAGE, 1, 2, 27, 29, 29),
    "RSQRT": ([], IMAGE, 2, 2, 29, None, None),
    "SQRT": ([], IMAGE, 1, 1, 29, None, None),
    "EXP": ([], IMAGE, 1, 1, 29, None, None),
    "LOG": ([], IMAGE, 1, 1, 29, None, None),
    "ABS": ([], IMAGE, 1, 1, 29, None, None),
    "POW": ([], IMAGE, 1, 1, 29, None, None),
}
# Ops whose data types are a rule of their own, with (output or input type, level) below.
APART = {"QUANTIZE", "DEQUANTIZE", "ARG_MAX", "ARG_MIN", "TRANSPOSE_CONV"}


def graph_of(name: str, dtype: str, version: int) -> Net:
    extra, shape, *_ = NNAPI[name]
    source = (1, 8) if name == "FULLY_CONNECTED" else IMAGE
    kept = [T(part.shape, dtype, part.data) if part.dtype == "INT8" else part for part in extra]
    return one(name, T(shape, dtype), *kept, source=T(source, dtype), version=version)


@pytest.mark.parametrize("name", NNAPI)
def test_nnapi_takes_an_op_from_its_level_on(name: str) -> None:
    *_, newest, floats, uint8, int8 = NNAPI[name]
    for dtype, since in ((FLOAT, floats), ("UINT8", uint8), ("INT8", int8)):
        graph = graph_of(name, dtype, newest).read()
        taken = [
            level
            for level in range(27, 35)
            if place_each(graph, nnapi_rules.judge_for(level), "ok")[0].mapped
        ]
        assert taken == ([] if since is None else list(range(since, 35))), dtype


@pytest.mark.parametrize("name", [name for name in NNAPI if name != "HARD_SWISH"])
def test_nnapi_takes_an_op_in_its_versions(name: str) -> None:
    *_, oldest, newest, _, _, _ = NNAPI[name]
    for version in range(1, newest + 2):
        (verdict,) = place_each(
            graph_of(name, FLOAT, version).read(), nnapi_rules.judge_for(34), "ok"
        )
        assert verdict.mapped == (oldest <= version <= newest)
        assert verdict.mapped or verdict.status == "kUnsupportedOperatorVersion"


def test_every_op_of_the_rules_is_in_these_tables() -> None:
    assert set(nnapi_rules.RULES) == set(NNAPI) | APART


SHAPE = T((4,), "INT32", [1, 8, 8, 8])
WORDS_OF_NNAPI: dict[
    str, tuple[Net, int, int | None]
] = {  # (graph, last level that says it, first that takes the op)
    "kUnsupportedOperator": (one("GELU", T(IMAGE)), 34, None),
    "kUnsupportedAndroidVersion": (
        one("SLICE", T(IMAGE), T((4,), "INT32", "zeros"), SHAPE),
        28,
        29,
    ),
    "kUnsupportedOperatorVersion": (one("ADD", T(IMAGE), version=3), 34, None),
    "kUnsupportedInputType": (one("RELU", T(IMAGE, "INT32"), source=T(IMAGE, "INT32")), 34, None),
    "kNoActivationExpected": (
        one("CONCATENATION", T((1, 8, 8, 16)), T(IMAGE), fusedActivationFunction=1),
        34,
        None,
    ),
    "kUnsupportedOperandRank": (
        one("SOFTMAX", T((1, 2, 8)), source=T((1, 2, 8)), version=2),
        28,
        29,
    ),
    "kUnsupportedOperandValue": (one("DEQUANTIZE", T(IMAGE, FLOAT), source=T(IMAGE)), 29, 30),
    "kUnsupportedOutputType": (one("QUANTIZE", T(IMAGE), source=T(IMAGE, FLOAT)), 29, 30),
    "kUnsupportedOperatorVariant": (one("TRANSPOSE_CONV", T(IMAGE), T(IMAGE)), 34, None),
    "kUnsupportedOperandSize": (
        one(
            "AVERAGE_POOL_2D",
            T((1, 1, 1, 8)),
            source=T((1, 20, 20, 8)),
            filterWidth=20,
            filterHeight=20,
        ),
        34,
        None,
    ),
}


@pytest.mark.parametrize("words", WORDS_OF_NNAPI)
def test_nnapis_words(words: str) -> None:
    net, last, first = WORDS_OF_NNAPI[words]
    graph = net.read()
    if words == "kUnsupportedOperandValue":
        source = graph.ops[0].inputs[0]
        moved = np.full_like(graph.tensors[source].zero_point, 3)
        graph.tensors[source] = dataclasses.replace(graph.tensors[source], zero_point=moved)
    judged = {
        level: place_each(graph, nnapi_rules.judge_for(level), "ok")[0] for level in range(27, 35)
    }
    assert judged[last].status == words
    assert judged[last].why
    assert [level for level, verdict in judged.items() if verdict.mapped] == (
        [] if first is None else list(range(first, 35))
    )


@pytest.mark.parametrize(
    ("name", "source", "output", "since"),
    [
        ("QUANTIZE", FLOAT, "UINT8", 29),
        ("QUANTIZE", FLOAT, "INT8", 30),
        ("DEQUANTIZE", "UINT8", FLOAT, 27),
        ("DEQUANTIZE", "INT8", FLOAT, 29),
        ("ARG_MAX", "INT8", "INT32", 29),
        ("ARG_MIN", FLOAT, "INT32", 29),
        ("ARG_MAX", "INT8", "INT8", None),
    ],
)
def test_nnapi_looks_at_both_types_of_a_conversion(
    name: str, source: str, output: str, since: int | None
) -> None:
    graph = one(name, T(IMAGE, output), source=T(IMAGE, source)).read()
    taken = [
        level
        for level in range(27, 35)
        if place_each(graph, nnapi_rules.judge_for(level), "ok")[0].mapped
    ]
    assert taken == ([] if since is None else list(range(since, 35)))
