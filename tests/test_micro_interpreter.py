"""TensorFlow Lite Micro's own interpreter, from the package tflite-micro: arena and answers.

The package has wheels for Linux on x86-64 alone, and for Python up to 3.12.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekd.app import micro_answers
from edgekd.app.terminal.bench import show_bench
from edgekd.assessment.micro.kernel_scratch import KernelLibrary
from edgekd.assessment.micro.micro_arena import micro_arena
from edgekd.assessment.micro.on_this_machine import compared
from edgekd.assessment.micro.struct_sizes import OP_DATA, PointerBytes
from edgekd.core.errors import ModelFileError
from edgekd.core.records import from_json, present
from edgekd.device.bench_record import Bench
from edgekd.settings.device_profiles import load_profile
from edgekd.tflite import micro_runtime
from edgekd.tflite.flatbuffer import read
from edgekd.tflite.runtime import LiteRunner, quantize_pixels
from tests.one_op_files import one_op_file
from tests.sample_report import bench

pytestmark = pytest.mark.skipif(
    not micro_runtime.installed(), reason="the package tflite-micro is not installed"
)

# Operators that keep unlike structures in the arena.
OPS = ("CONV_2D", "FULLY_CONNECTED", "HARD_SWISH", "SOFTMAX")


def reference(model: bytes, codes: np.ndarray) -> np.ndarray:
    """LiteRT's reference kernels on the same codes."""
    runner = LiteRunner(model, kernels="reference")
    return np.stack([runner.invoke(row[None]).reshape(-1) for row in codes])


def random_codes(model: bytes, count: int = 2) -> np.ndarray:
    shape = read(model).tensors[read(model).inputs[0]].shape
    random = np.random.default_rng(0)
    return random.integers(-128, 128, (count, *shape[1:])).astype(np.int8)


@pytest.mark.parametrize("op", OPS)
def test_one_operator_is_equal_to_the_bit_and_its_arena_is_planned(op: str) -> None:
    model = one_op_file(op)
    codes = random_codes(model)
    answer = micro_runtime.run(model, codes)
    assert np.array_equal(answer.outputs, reference(model, codes))
    planned = micro_arena(read(model), KernelLibrary.REFERENCE, PointerBytes.DESKTOP)
    assert answer.head_bytes == planned.head
    assert abs(answer.tail_bytes - planned.tail) <= 16
    assert op in OP_DATA


def test_a_student_answers_alike_and_its_arena_is_within_two_per_cent(
    small_bundle: Path,
) -> None:
    """A trained student on its own golden images.

    FULLY_CONNECTED rounds twice here and once in LiteRT, so that a code may be one step off. The
    layers before it are equal to the bit.
    """
    model = (small_bundle / "model.tflite").read_bytes()
    with np.load(small_bundle / "golden.npz") as golden:
        codes = quantize_pixels(golden["inputs"], LiteRunner(model).input)
    answer = micro_runtime.run(model, codes)
    off = np.abs(answer.outputs.astype(int) - reference(model, codes))
    assert off.max() <= 1
    assert (off > 0).mean() < 0.1
    planned = micro_arena(read(model), KernelLibrary.REFERENCE, PointerBytes.DESKTOP).bytes
    assert planned == pytest.approx(answer.arena_bytes, rel=0.02)
    assert f"took {answer.arena_bytes:,} bytes; planned for it were" in compared(model, read(model))


def test_an_operator_without_a_kernel_is_named_in_its_own_words() -> None:
    with pytest.raises(ModelFileError, match="Didn't find op for builtin opcode 'GELU'"):
        micro_runtime.run(one_op_file("GELU"), random_codes(one_op_file("GELU")))


def test_a_bench_for_a_microcontroller_has_the_interpreters_answers(
    small_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = (small_bundle / "model.tflite").read_bytes()
    golden = (small_bundle / "golden.npz").read_bytes()
    result = from_json(Bench, bench(profile="rp2350"), "the sample run")
    found = micro_answers.added(result, model, golden, load_profile("rp2350"))
    micro = present(found.micro)
    assert micro is not None
    assert micro.golden is not None
    assert micro.golden.argmax_agreement == 1.0
    assert micro.arena_bytes > 10_000
    said: list[str] = []
    show_bench(said.append, found)
    assert "times are void" in said[0]
    assert any("arena" in line and "agree on 100.0%" in line for line in said)
    assert micro_answers.added(result, model, golden, load_profile("pi4")) is result
    refused = micro_answers.added(result, one_op_file("GELU"), None, load_profile("rp2350"))
    assert "TensorFlow Lite Micro refuses the model" in refused.warnings[-1]
    monkeypatch.setattr(micro_runtime, "installed", lambda: False)
    without = micro_answers.added(result, model, golden, load_profile("rp2350"))
    assert without.warnings[-1] == micro_answers.NOT_INSTALLED
