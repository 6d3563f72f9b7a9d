"""Files that are odd but whole, and files that are damaged: read, or refused in one sentence."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekd.app import cli
from edgekd.assessment.graph_check import check_graph
from edgekd.core.errors import ModelFileError
from edgekd.settings.device_profiles import load_profile
from edgekd.tflite.constant_data import constant
from edgekd.tflite.flatbuffer import builtin_name, read, write
from tests.lite_graphs import Net, T, separable

IMAGE = (1, 8, 8, 8)


def changed(change: Callable[[Any], object]) -> bytes:
    """A small network's file after a change of its ModelT."""
    model = separable().read().model
    change(model)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def weights(model: Any) -> Any:
    """The first tensor with data, int8."""
    return next(
        tensor
        for tensor in model.subgraphs[0].tensors
        if model.buffers[tensor.buffer].data is not None and tensor.type == schema.TensorType.INT8
    )


def four_bits(model: Any) -> None:
    """Halve the bytes of the weights: two values in each."""
    tensor = weights(model)
    tensor.type = schema.TensorType.INT4
    buffer = model.buffers[tensor.buffer]
    buffer.data = np.asarray(buffer.data)[: len(buffer.data) // 2]


def twice(model: Any) -> None:
    """A second subgraph that a WHILE of the first one calls."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.WHILE
    model.operatorCodes.append(code)
    model.subgraphs.append(copy.deepcopy(model.subgraphs[0]))
    model.subgraphs[0].operators[0].opcodeIndex = len(model.operatorCodes) - 1


def sparse(model: Any) -> None:
    """Say that the weights are stored sparsely."""
    weights(model).sparsity = schema.SparsityParametersT()


def negative(model: Any) -> None:
    """A -1 in the shape itself, and not in its signature."""
    model.subgraphs[0].tensors[0].shape = np.array([-1, 8, 8, 8], np.int32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (twice, "2 subgraphs, which WHILE call; exactly one is supported"),
        (sparse, "is sparse"),
        (negative, "tensor 0 has the shape [-1, 8, 8, 8]"),
    ],
)
def test_what_is_not_read_is_refused_with_the_files_name(
    change: Callable[[Any], object], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.tflite"
    path.write_bytes(changed(change))
    assert cli.main(["check", str(path)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert str(path) in said
    assert "next:" in said


def test_a_second_subgraph_that_nothing_calls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a file with two signatures. Only check, which writes nothing, reads such a file."""
    plain = changed(lambda model: None)
    double = changed(lambda model: model.subgraphs.append(copy.deepcopy(model.subgraphs[0])))
    path = tmp_path / "two.tflite"
    told = []
    for data in (plain, double):
        path.write_bytes(data)
        assert cli.main(["check", str(path), "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0]["mapped"] == told[1]["mapped"]
    assert told[0]["predicted"] == told[1]["predicted"]
    assert told[0]["memory"]["arena_bytes"] == told[1]["memory"]["arena_bytes"]
    assert told[0]["notes"] != told[1]["notes"]
    assert "2 subgraphs; the first is judged" in told[1]["notes"][0]
    with pytest.raises(ModelFileError, match="exactly one is supported"):
        read(double)


def test_four_bit_weights_are_read() -> None:
    graph = read(changed(four_bits))
    tensor = next(tensor for tensor in graph.tensors if tensor.dtype == "INT4")
    assert tensor.data is not None
    assert tensor.data.shape == tensor.shape


@pytest.mark.parametrize(
    ("dtype", "raw", "values"),
    [
        ("INT4", b"\x1f\x08", [-1, 1, -8]),
        ("UINT4", b"\x1f\x08", [15, 1, 8]),
        ("INT2", b"\xe4\x03", [0, 1, -2, -1, -1]),
        ("UINT64", b"\x01" + b"\0" * 7, [1]),
    ],
)
def test_packed_values(dtype: str, raw: bytes, values: list[int]) -> None:
    """By hand, the first value in the lowest bits."""
    assert constant(raw, dtype, (len(values),)).tolist() == values
    with pytest.raises(ValueError, match="instead of"):
        constant(raw + b"\0", dtype, (len(values),))


def test_weights_behind_the_flatbuffer() -> None:
    """As in files above 2 GB: Buffer.offset and size, from the beginning of the file."""
    plain = separable().read()
    model = plain.model
    tensor = weights(model)
    buffer = model.buffers[tensor.buffer]
    values = bytes(bytearray(buffer.data))
    buffer.data, buffer.offset, buffer.size = None, 1 << 20, len(values)

    def packed() -> bytes:
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    buffer.offset = len(packed())
    data = packed() + values
    index = model.subgraphs[0].tensors.index(tensor)
    assert np.array_equal(read(data).tensors[index].data, plain.tensors[index].data)
    with pytest.raises(ModelFileError, match="ends behind the file"):
        read(data[:-1])


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [(3, 3, "CONV_2D"), (3, 0, "CONV_2D"), (0, 3, "CONV_2D"), (127, 206, "STABLEHLO_COMPOSITE")],
)
def test_the_two_fields_of_an_operator_code(old: int, new: int, name: str) -> None:
    code = schema.OperatorCodeT()
    code.deprecatedBuiltinCode, code.builtinCode = old, new
    assert builtin_name(code) == name


@pytest.mark.parametrize("profile", ["pi4", "coral-usb", "android-nnapi"])
@pytest.mark.parametrize(
    "op", ["CONV_2D", "MEAN", "RESHAPE", "SOFTMAX", "FULLY_CONNECTED", "PRELU"]
)
def test_operators_without_their_tensors_are_judged(op: str, profile: str) -> None:
    """A damaged file gets an answer: no rule may fall over an operator that lacks its inputs."""
    for shape in ((), (8,), IMAGE):
        net = Net(shape)
        net.op(op, T(shape))
        found = check_graph(net.read(), load_profile(profile), "x", finished=True)
        assert found.mapped.ops == 1


@pytest.mark.parametrize("dtype", ["FLOAT32", "INT16", "FLOAT16"])
def test_other_number_formats_do_not_map_on_the_edge_tpu(dtype: str) -> None:
    net = Net(IMAGE, dtype)
    net.op("RELU", T(IMAGE, dtype))
    found = check_graph(net.read(), load_profile("coral-usb"), "x", finished=True)
    assert found.mapped.ends_at.status == "Operation is working on an unsupported data type"


def test_write_takes_a_model_without_a_description() -> None:
    graph = separable().read()
    graph.model.description = None
    assert read(write(graph.model)).counts() == graph.counts()
