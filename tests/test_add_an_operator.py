"""The walk of docs/how_to/add_an_operator.md: with its rows, a network with TANH is converted and
runs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekd.core.errors import UnsupportedNetwork
from edgekd.export import node_lowerings, onnx_emitters
from edgekd.export.node_lowerings import NodeLowering
from edgekd.export.onnx_export import from_network
from edgekd.export.tflite_convert import convert
from edgekd.proof import exact_kernels
from edgekd.proof.operands import Operand, to_codes
from edgekd.quantization import fakequant_placement
from edgekd.quantization.fakequant_placement import OpRule
from edgekd.quantization.qat_network import calibrate, predict, prepare
from edgekd.tflite.flatbuffer import LiteOp, LiteTensor
from edgekd.tflite.runtime import LiteRunner, logits
from tests.small_networks import MEAN, PX, STD, Head, artifact, images, normalised

PAGE = Path(__file__).parents[1] / "docs" / "how_to" / "add_an_operator.md"
aten = torch.ops.aten


class Squashed(nn.Module):
    """A convolution and a tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Tanh(), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.conv(x)))


def tanh(_op: LiteOp, inputs: list[Operand], output: LiteTensor) -> np.ndarray:
    return to_codes(np.tanh(inputs[0].real), output)


@pytest.fixture
def with_the_rows_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = OpRule("TANH", "fixed")
    lowering = NodeLowering(node_lowerings._unary("TANH"), ())
    monkeypatch.setitem(fakequant_placement.RULES, aten.tanh.default, rule)
    monkeypatch.setitem(onnx_emitters.EMITTERS, aten.tanh.default, onnx_emitters._unary("Tanh"))
    monkeypatch.setitem(node_lowerings.LOWERINGS, "Tanh", lowering)
    monkeypatch.setitem(exact_kernels.KERNELS, "TANH", tanh)


def test_without_the_rows_the_network_is_refused() -> None:
    with pytest.raises(UnsupportedNetwork, match="the op tanh in module 'act' has no int8 rule"):
        prepare(Squashed(), PX, MEAN, STD)


@pytest.mark.usefixtures("with_the_rows_of_the_page")
def test_with_the_rows_the_network_is_converted() -> None:
    torch.manual_seed(0)
    network = prepare(Squashed(), PX, MEAN, STD)
    pixels, _ = images(16, PX)
    calibrate(network, [normalised(pixels, MEAN, STD)])
    data = bytes(convert(from_network(artifact(network), network)).tflite)
    runner = LiteRunner(data, keep="everything")
    assert runner.graph.counts()["TANH"] == 1
    step = float(runner.output.scale[0])
    assert np.abs(logits(data, pixels) - predict(network, pixels)).max() <= 2 * step

    op = next(op for op in runner.graph.ops if op.name == "TANH")
    source, target = (runner.graph.tensors[index] for index in (op.inputs[0], op.outputs[0]))
    runner.codes(pixels[:1])
    expected = exact_kernels.KERNELS["TANH"](
        op, [Operand(source, runner.value(source.index))], target
    )
    assert np.abs(runner.value(target.index).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "row",
    [
        'aten.tanh.default: OpRule("TANH", "fixed"),',
        'aten.tanh.default: _unary("Tanh"),',
        '"Tanh": NodeLowering(_unary(Operator.TANH), (Operator.TANH,)),',
        "return to_codes(np.tanh(inputs[0].real), output)",
    ],
)
def test_the_page_gives_the_rows(row: str) -> None:
    assert row in PAGE.read_text()
