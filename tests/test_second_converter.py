"""An independent witness: onnx2tf reads the exported float graph and must compute the same answers
as ours.

The file that ships is lowered by `edgekd.export.onnx_to_tflite`; this converter shares no code with
it.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekd.export.onnx_export import export
from edgekd.export.tflite_convert import convert
from edgekd.networks import builders
from edgekd.tflite import onnx_runner
from tests.trained import calibrated


def test_a_second_converter_computes_the_same(tmp_path: Path) -> None:
    onnx2tf = pytest.importorskip("onnx2tf")
    from ai_edge_litert.interpreter import Interpreter

    exported = export(
        calibrated("mobilenetv2_035", 64), builders.create("mobilenetv2_035", {"num_classes": 3})
    )
    (tmp_path / "m.onnx").write_bytes(exported.onnx)  # a copy: onnx2tf rewrites its input in place
    os.environ["PATH"] = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it calls onnxsim
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        onnx2tf.convert(
            input_onnx_file_path=str(tmp_path / "m.onnx"),
            output_folder_path=str(tmp_path / "out"),
            tflite_backend="flatbuffer_direct",
            non_verbose=True,
        )
    theirs = Interpreter(str(next((tmp_path / "out").glob("*float32.tflite"))))
    theirs.allocate_tensors()
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32)
    theirs.set_tensor(theirs.get_input_details()[0]["index"], x.transpose(0, 2, 3, 1))
    theirs.invoke()
    found = theirs.get_tensor(theirs.get_output_details()[0]["index"])
    session = onnx_runner.open_session(bytes(exported.onnx))
    expected = session.run(None, {session.get_inputs()[0].name: x})[0]
    assert np.allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_converting_twice_gives_the_same_bytes() -> None:
    qnet = calibrated("mobilenetv2_035", 32)
    exported = export(qnet, builders.create(qnet.arch, qnet.options))
    assert convert(exported).tflite == convert(exported).tflite
