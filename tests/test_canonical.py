"""The canonical form by itself: what the pass sets, what it leaves, and what it refuses. No
TensorFlow needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekd.core.errors import ModelFileError
from edgekd.export.model_builder import ModelBuilder
from edgekd.tflite.canonical import canonical, deviations
from edgekd.tflite.flatbuffer import read, schema, write
from edgekd.tflite.runtime import LiteRunner

SHAPE = (1, 6, 6, 4)


def two_pads(second_factor: float = 1.0) -> bytes:
    """PAD, PAD with equal amounts, MUL of the result with itself."""
    builder = ModelBuilder()

    def grid(name: str, shape: tuple[int, ...], scale: float = 0.05) -> int:
        return builder.tensor(name, shape, "INT8", scale=[scale], zero_point=[3])

    amounts = np.array([[0, 0], [1, 1], [0, 0], [0, 0]], np.int32)
    for number in (1, 2):
        before = "input" if number == 1 else "pad1"
        pads = builder.tensor(f"amounts{number}", (4, 2), "INT32", data=amounts)
        grown = grid(f"pad{number}", (1, 6 + 2 * number, 6, 4))
        builder.op("PAD", [grid(before, (1, 4 + 2 * number, 6, 4)), pads], [grown], {})
    grown = grid("pad2", (1, 10, 6, 4))
    builder.op(
        "MUL",
        [grown, grown],
        [grid("output", (1, 10, 6, 4), 0.05 * second_factor)],
        {"fusedActivationFunction": 0},
    )
    return builder.finish("input", "output", "two pads")


def spoiled(data: bytes, change: Any) -> bytes:
    graph = read(data)
    change(graph.model)
    return write(graph.model)


def test_equal_parameters_are_one_tensor_and_the_answer_stays() -> None:
    data = two_pads()
    graph = read(data)
    assert [tensor.name for tensor in graph.tensors] == [
        "input",
        "amounts1",
        "pad1",
        "pad2",
        "output",
    ]
    assert graph.ops[0].inputs[1] == graph.ops[1].inputs[1] == 1
    found = LiteRunner(data, kernels="reference").invoke(np.full((1, 6, 6, 4), 100, np.int8))
    assert found.shape == (1, 10, 6, 4)
    assert (found[0, 2:-2] == np.rint((97 * 0.05) ** 2 / 0.05 + 3).clip(-128, 127)).all()


def test_equal_input_gives_equal_bytes() -> None:
    assert two_pads() == two_pads()
    assert canonical(two_pads()) == two_pads()


def test_the_version_of_mul_follows_its_scales() -> None:
    version = {
        factor: {op.name: op.version for op in read(two_pads(factor)).ops}["MUL"]
        for factor in (1.0, 0.01)
    }
    assert version == {1.0: 2, 0.01: 3}  # 0.05 * 0.05 / 0.0005 is at least 1


def old_versions(model: Any) -> None:
    for code in model.operatorCodes:
        code.version, code.deprecatedBuiltinCode = 1, 0


def all_on_buffer_zero(model: Any) -> None:
    for tensor in model.subgraphs[0].tensors:
        if tensor.name != b"amounts1":
            tensor.buffer = 0


def a_signature(model: Any) -> None:
    model.subgraphs[0].tensors[0].shapeSignature = np.array(SHAPE, np.int32)


def minima(model: Any) -> None:
    model.subgraphs[0].tensors[0].quantization.min = np.array([-6.0], np.float32)
    model.subgraphs[0].tensors[0].quantization.max = np.array([6.0], np.float32)


def no_metadata(model: Any) -> None:
    model.metadata = None


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (old_versions, {"PAD #0 -> pad1", "PAD #1 -> pad2", "MUL #2 -> output"}),
        (all_on_buffer_zero, {"input", "pad1", "pad2", "output"}),
        (a_signature, {"input"}),
        (minima, {"input"}),
        (no_metadata, {"min_runtime_version"}),
    ],
)
def test_each_deviation_is_named_and_mended(change: Any, names: set[str]) -> None:
    data = spoiled(two_pads(), change)
    assert {row.name for row in deviations(data)} == names
    assert deviations(canonical(data)) == []


def test_other_metadata_stay() -> None:
    def add(model: Any) -> None:
        entry, buffer = schema().MetadataT(), schema().BufferT()
        entry.name, entry.buffer, buffer.data = "TFLITE_METADATA", len(model.buffers), b"labels"
        model.metadata.append(entry)
        model.buffers.append(buffer)

    model = read(canonical(spoiled(two_pads(), add))).model
    assert [entry.name for entry in model.metadata] == [b"min_runtime_version", b"TFLITE_METADATA"]
    assert bytes(bytearray(model.buffers[model.metadata[1].buffer].data)) == b"labels"


def test_two_tensors_of_one_name_are_refused() -> None:
    def rename(model: Any) -> None:
        model.subgraphs[0].tensors[2].name = "input"

    with pytest.raises(ModelFileError, match="'input'"):
        canonical(spoiled(two_pads(), rename))
