"""tools/compare_converters.py measures as edgekd does, and a failure becomes a reason."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgekd.export.onnx_export import export
from edgekd.export.tflite_convert import convert
from edgekd.tflite import runtime
from tests import small_networks
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "compare_converters", REPOSITORY / "tools" / "compare_converters.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model() -> bytes:
    network, float_network, _ = small_networks.calibrated("Branches")
    return bytes(convert(export(small_networks.artifact(network), float_network)).tflite)


def test_anybodys_file_is_fed_as_edgekd_feeds_its_own(tool: ModuleType, model: bytes) -> None:
    """Normalised pixels, rounded to the file's input scale, are the codes that edgekd sets."""
    images, _ = small_networks.images(6, small_networks.PX, seed=3)
    flat = [np.mean(small_networks.MEAN)] * 3, [1 / np.mean(1 / np.asarray(small_networks.STD))] * 3
    found = tool.Lite(model, *flat).logits(
        images
    )  # one scale and zero point stand for all channels of the file's input
    assert found == pytest.approx(runtime.logits(model, images), abs=0.02)
    assert (found.argmax(1) == runtime.logits(model, images).argmax(1)).all()


def test_ops_are_listed_as_in_the_file(tool: ModuleType, model: bytes) -> None:
    counts, in_float = tool.ops(model)
    assert counts == runtime.describe(model)["ops"]
    assert in_float == 0


def test_every_file_is_timed_in_every_round(tool: ModuleType, model: bytes) -> None:
    images, _ = small_networks.images(1, small_networks.PX)
    times = tool.latencies(
        lambda _: tool.Lite(model, small_networks.MEAN, small_networks.STD),
        ["a", "b"],
        images[0],
        8,
    )
    assert {name: len(values) for name, values in times.items()} == {"a": 8, "b": 8}
    assert all((values > 0).all() for values in times.values())


def test_a_converter_that_does_not_install_is_a_reason(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool.shutil, "which", lambda *_, **__: None)
    with pytest.raises(RuntimeError, match="uv is not installed"):
        tool.environment("onnx2tf", tmp_path)
    monkeypatch.undo()
    if (
        tool.shutil.which("uv") is None
        and tool.shutil.which("uv", path=str(Path(sys.executable).parent)) is None
    ):
        pytest.skip("uv is not installed here")
    monkeypatch.setitem(tool.PINS, "onnx2tf", (f"nothing @ {(tmp_path / 'no-such.whl').as_uri()}",))
    with pytest.raises(RuntimeError, match="does not install"):
        tool.environment("onnx2tf", tmp_path)


def test_the_first_error_of_a_chain_is_told(tool: ModuleType) -> None:
    text = (
        "Traceback (most recent call last):\n  File x\nValueError: axis | wrong\n\n"
        "The above exception was\n"
        "Traceback\n  ^^^^\nRuntimeError: failed.\n"
    )
    assert tool.last_words(text) == "ValueError: axis / wrong"
    assert tool.last_words("it needs a file\n") == "it needs a file"
    assert tool.last_words("") == ""
    assert len(tool.last_words("x" * 1000)) <= tool.REASON_LETTERS + 1


def test_every_converter_has_its_versions_and_its_title(tool: ModuleType) -> None:
    assert tool.PINS.keys() == tool.TITLES.keys() == tool.CONVERTERS.keys()
    assert all("==" in pin for pins in tool.PINS.values() for pin in pins)
