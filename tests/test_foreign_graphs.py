"""What exporters write around a network: loops for views, normalisations, axes in NHWC."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgekd.core.artifacts import Network
from edgekd.core.errors import EdgeKDError, RecipeError
from edgekd.networks import builders
from edgekd.networks.foreign import loader, preprocessings
from edgekd.networks.foreign.model import CONVERT, Asked
from edgekd.quantization import foreign_graph, given_network, qat_network
from edgekd.quantization.graphs import nodes_of
from edgekd.settings.convert_settings import ConvertConfig
from edgekd.tflite.int8_rules import Int8Rules
from tests import tiny_onnx

PX = 32


def images(count: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(count, 3, PX, PX)


def prepared(network: Network) -> qat_network.QatNetwork:
    """The network's int8 graph."""
    restored = builders.restore(network)
    return qat_network.prepare(restored, PX, network.mean, network.std, Int8Rules())


def loop_of_indices(step: int) -> list[onnx.NodeProto]:
    """Indices [n, 8] of a tensor by its shape, computed in a loop as PyTorch's exporter does."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Range", ["zero", "size", "one"], ["row"]),
            helper.make_node("Mul", ["row", "step"], ["stepped"]),
            helper.make_node("Add", ["sum", "stepped"], ["sum_out"]),
        ],
        "strides",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.INT64, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", TensorProto.INT64, None),
        ],
        [numpy_helper.from_array(np.int64(step), "step")],
    )
    return [
        helper.make_node("Shape", ["pooled"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["size"]),
        helper.make_node("Loop", ["one", "", "start"], ["indices"], body=body),
        helper.make_node("Reshape", ["pooled", "whole"], ["line"]),
        helper.make_node("Gather", ["line", "indices"], ["flat"]),
    ]


def strided(file: Path, step: int = 1) -> Path:
    """The tiny model whose flatten is a view by strides."""
    made = tiny_onnx.model(batch=1)
    place = next(i for i, node in enumerate(made.graph.node) if node.op_type == "Flatten")
    last = made.graph.node[place + 1]
    del made.graph.node[place:]
    made.graph.node.extend([*loop_of_indices(step), last])
    numbers = {"zero": 0, "one": 1, "whole": [-1], "start": np.zeros((1, 8))}
    made.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items()
    )
    onnx.save(made, file)
    return file


def test_a_view_by_strides_is_a_reshape(tmp_path: Path) -> None:
    pytest.importorskip("onnx2pytorch")
    file = strided(tmp_path / "strided.onnx")
    session = onnxruntime.InferenceSession(str(file))
    wanted = np.concatenate([session.run(None, {"x": one[None].numpy()})[0] for one in images()])
    graph = foreign_graph.recorded(loader.load(str(file), Asked()).module, images())
    assert np.allclose(graph(images()).detach().numpy(), wanted, atol=1e-5)
    other = strided(tmp_path / "other.onnx", step=0)
    with pytest.raises(EdgeKDError, match="it holds Loop"):
        loader.load(str(other), Asked())


class Inside(nn.Module):
    """A classifier that normalises its pixels in its own forward."""

    def __init__(self, scale: float, nhwc: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.nhwc, self.scale = nhwc, scale
        shape = (1, 1, 1, 3) if nhwc else (3, 1, 1)
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).reshape(shape))
        self.register_buffer("std", torch.tensor([0.2, 0.25, 0.3]).reshape(shape))
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.head = nn.Linear(8 * 16 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 2, 3, 1) if self.nhwc else x
        x = (x * self.scale - self.mean) / self.std
        x = x.permute(0, 3, 1, 2) if self.nhwc else x
        x = torch.relu(self.first(x))
        x = x.permute(0, 2, 3, 1) if self.nhwc else x
        return self.head(x.reshape(x.shape[0], -1))


def of_unit_pixels() -> nn.Module:
    return Inside(1.0, nhwc=False)


def of_bytes() -> nn.Module:
    return Inside(1 / 255, nhwc=False)


def of_bytes_in_nhwc() -> nn.Module:
    return Inside(1 / 255, nhwc=True)


HERE = "tests.test_foreign_graphs:"


@pytest.mark.parametrize(
    ("made", "largest"), [(of_unit_pixels, 1.0), (of_bytes, 255.0), (of_bytes_in_nhwc, 255.0)]
)
def test_a_normalisation_inside_is_part_of_the_input(
    made: Callable[[], nn.Module], largest: float
) -> None:
    network = given_network.network(ConvertConfig(model=f"{HERE}{made.__name__}", px=PX))
    assert np.allclose(network.mean, [0.4, 0.5, 0.6])
    assert np.allclose(network.std, [0.2, 0.25, 0.3])
    pixels = np.random.default_rng(0).integers(0, 256, (2, PX, PX, 3), np.uint8)
    restored = builders.restore(network)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 * largest
    normalised = builders.normalised(pixels, network.mean, network.std)
    assert torch.allclose(restored(normalised), made()(images), atol=1e-4)
    ops = [str(node.target) for node in nodes_of(prepared(network).graph.graph)]
    # Nothing of it is left, and the map is flattened once, in the order of the file.
    assert not {"aten.sub.Tensor", "aten.div.Tensor", "aten.mul.Tensor"} & set(ops)
    assert ops.count("aten.permute.default") == 1


def test_what_is_assumed_of_a_normalisation_inside() -> None:
    config = ConvertConfig(model=f"{HERE}of_bytes", px=PX)
    did = preprocessings.inside(given_network.network(config).facts)
    told = preprocessings.assumed("x.onnx", did, CONVERT, "rgb")
    assert "--mean 0,0,0 --std 0.00392157,0.00392157,0.00392157 --order rgb is assumed" in told
    # The mean of a network whose pixels were normalised before, too, is no pixel value.
    wrong = ConvertConfig(model=config.model, px=PX, mean=(0.485,), std=(0.229,))
    with pytest.raises(RecipeError, match="normalises its pixels itself") as refused:
        given_network.network(wrong)
    assert "--std 0.00392157" in str(refused.value)


def test_a_wrong_preprocessing_of_such_a_network_is_named_as_it_is_typed() -> None:
    rng = np.random.default_rng(0)
    tints = rng.integers(0, 200, (40, 1, 1, 3))
    pixels = (tints + rng.integers(0, 56, (40, PX, PX, 3))).astype(np.uint8)
    asked = ConvertConfig(model=f"{HERE}of_bytes", px=PX, mean=(0.0,), std=(1 / 255,))
    right = given_network.network(asked)
    normalised = builders.normalised(pixels, right.mean, right.std)
    labels = builders.restore(right)(normalised).argmax(1).numpy()
    assert preprocessings.better(right, pixels, labels) is None
    wrong = given_network.network(dataclasses.replace(asked, mean=(0.0,), std=(1 / 130,)))
    found = preprocessings.better(wrong, pixels, labels)
    assert found is not None
    assert "--mean 0,0,0 --std 0.00392157" in found.way.flags(CONVERT, "rgb")
    assert "With --mean 0,0,0 --std 0.00769231,0.00769231,0.00769231" in found.told(CONVERT, "rgb")


def test_a_file_for_several_images_at_once_serves_any_number(tmp_path: Path) -> None:
    pytest.importorskip("onnx2pytorch")
    once = tiny_onnx.save(tmp_path / "once.onnx")
    made = tiny_onnx.model(batch=4)
    flatten = next(node for node in made.graph.node if node.op_type == "Flatten")
    sizes = numpy_helper.from_array(np.array([4, 8], np.int64), "sizes")
    made.graph.initializer.append(sizes)
    flatten.CopyFrom(helper.make_node("Reshape", [flatten.input[0], "sizes"], ["flat"]))
    onnx.save(made, tmp_path / "four.onnx")
    one, four = (
        foreign_graph.recorded(loader.load(str(file), Asked()).module, images())
        for file in (once, tmp_path / "four.onnx")
    )
    assert torch.allclose(one(images(3)), four(images(3)), atol=1e-5)
