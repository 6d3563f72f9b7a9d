"""`report --why-slow`: the operators of a measured model by their time, timed or predicted."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgekd.app import cli
from edgekd.assessment import slowness
from edgekd.device import bench
from edgekd.device.bench_history import keep
from edgekd.device.transports import LocalTransport
from edgekd.settings.device_profiles import load_profile
from edgekd.tflite.flatbuffer import read
from edgekd.tflite.runtime import LiteRunner
from tests.bench_answers import QUICK
from tests.lite_graphs import Net, separable


def lopsided() -> bytes:
    """A 1 x 1 convolution, one with 64 times its work, and one with 8 times, on one map."""
    net = Net((1, 32, 32, 8))
    net.conv(64)
    net.conv(512)
    net.conv(8)
    return net.bytes()


def test_a_run_here_is_timed_op_by_op(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = lopsided()
    (tmp_path / "model.tflite").write_bytes(model)
    assert cli.main(["report", "--why-slow", str(tmp_path)]) == 2
    assert "edgekd bench" in capsys.readouterr().err, (
        "without a measurement it says how to make one"
    )
    keep(tmp_path, bench.bench(model, load_profile("host"), LocalTransport(), settings=QUICK))
    assert cli.main(["report", "--why-slow", str(tmp_path), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["basis"] == slowness.MEASURED
    assert body["ops"][0]["index"] == 1, "the op with most work takes longest"
    assert sum(row["ms"] for row in body["ops"]) == pytest.approx(body["sum_ms"])
    assert sum(body["by_op"].values()) == pytest.approx(body["sum_ms"])
    assert cli.main(["report", "--why-slow", str(tmp_path)]) == 0
    assert "all 3 CONV_2D" in capsys.readouterr().out


def test_a_run_elsewhere_is_predicted_and_says_so(tmp_path: Path):
    model = separable(side=224).bytes()
    (tmp_path / "model.tflite").write_bytes(model)
    body = bench.bench(model, load_profile("host"), LocalTransport(), settings=QUICK)
    keep(tmp_path, msgspec.structs.replace(body, profile="pi4", transport="ssh"))
    found = slowness.rank(tmp_path)
    assert found.basis == slowness.PREDICTED
    assert found.whole_ms == body.latency_ms.p50
    assert [row.ms for row in found.ops] == sorted((row.ms for row in found.ops), reverse=True)
    assert found.sum_ms > 0


def test_ops_alone_chain_to_the_whole():
    """Operators run one by one, each fed with the outputs before it, give the whole's bytes."""
    data = separable(hard_swish=True, squeeze_excite=True).bytes()
    graph, random = read(data), np.random.default_rng(0)
    image = random.integers(-128, 128, graph.tensors[graph.inputs[0]].shape, np.int8)
    values = {graph.inputs[0]: image}
    for op, one in zip(graph.ops, slowness.single_ops(data), strict=True):
        interpreter = LiteRunner(one, kernels="reference").interpreter
        fed = [index for index in op.inputs if index >= 0 and graph.tensors[index].data is None]
        for port, index in zip(interpreter.get_input_details(), fed, strict=True):
            interpreter.set_tensor(port["index"], values[index])
        interpreter.invoke()
        values[op.outputs[0]] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert np.array_equal(
        values[graph.outputs[0]], LiteRunner(data, kernels="reference").invoke(image)
    )
