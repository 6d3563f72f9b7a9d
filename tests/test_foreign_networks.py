"""Networks that users bring: every form, and one clear message for what cannot be used."""

from __future__ import annotations

import io
import json
import pickle
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgekd.app import cli
from edgekd.core.errors import EdgeKDError
from edgekd.networks import builders, recorded_graph
from edgekd.networks.foreign import loader
from edgekd.networks.foreign.model import Asked, Layout
from edgekd.quantization import foreign_graph, given_network
from edgekd.settings.convert_settings import ConvertConfig
from tests import tiny_onnx

PX, CLASSES = 32, 4


class Small(nn.Module):
    """A classifier with what exporters write differently: hard-swish, a clamp, a max pool, a
    reshape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 16, 3, 2, 1, groups=2)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = nn.functional.hardswish(self.norm(self.first(images)))
        x = torch.clamp(nn.functional.max_pool2d(self.second(x), 2), 0, 6)
        return self.head(x.mean((2, 3), keepdim=True).view(x.shape[0], 16))


def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def export(file: Path, opset: int = 13, batch: bool = True, **more: Any) -> Path:
    """The small network as ONNX, by the exporter that writes old opsets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            small(),
            (torch.zeros(1, 3, PX, PX),),
            str(file),
            opset_version=opset,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "n"}} if batch else None,
            **more,
        )
    return file


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("onnx") / "small.onnx")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pt2") / "small.pt2"
    torch.export.save(torch.export.export(small(), (torch.zeros(2, 3, PX, PX),)), file)
    return file


def images(count: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(count, 3, PX, PX)


def recorded(text: str | Path, asked: Asked | None = None) -> torch.fx.GraphModule:
    found = loader.load(str(text), asked or Asked())
    assert found.px == PX
    return foreign_graph.recorded(found.module, images())


def test_a_recorded_network_is_kept_as_json_and_serves_any_batch() -> None:
    graph = foreign_graph.recorded(small(), images())
    body = json.loads(json.dumps(recorded_graph.to_json(graph)))
    again = builders.create(recorded_graph.ARCH, {recorded_graph.GRAPH: body})
    again.load_state_dict(graph.state_dict())
    assert torch.allclose(again(images(3)), small()(images(3)), atol=1e-5)
    assert foreign_graph.macs(graph) > 0
    body["nodes"][1][2] = "os.system"
    with pytest.raises(EdgeKDError, match=r"os\.system"):
        recorded_graph.build(
            {
                **body,
                "nodes": [[*body["nodes"][0]], ["x", "call_function", "os.system", [], {}, ""]],
            }
        )


def test_the_order_of_colours_is_folded_into_the_first_convolution() -> None:
    graph = foreign_graph.recorded(small(), images())
    foreign_graph.reverse_channels(graph)
    assert torch.allclose(graph(images().flip(1)), small()(images()), atol=1e-5)


@pytest.mark.parametrize("opset", [13, 17])
def test_onnx(tmp_path: Path, opset: int) -> None:
    pytest.importorskip("onnx2pytorch")
    file = export(tmp_path / "small.onnx", opset)
    session = onnxruntime.InferenceSession(str(file))
    wanted = session.run(None, {"image": images().numpy()})[0]
    graph = recorded(file)
    assert np.allclose(graph(images()).detach().numpy(), wanted, atol=1e-5)
    ops = {str(node.target) for node in graph.graph.nodes}
    assert {"aten.hardswish.default", "aten.hardtanh.default", "aten.max_pool2d.default"} <= ops


def test_onnx_of_the_other_layout(tmp_path: Path) -> None:
    pytest.importorskip("onnx2pytorch")
    model = onnx.load(export(tmp_path / "small.onnx", batch=False))
    model.graph.node.insert(
        0, helper.make_node("Transpose", ["nhwc"], ["image"], perm=[0, 3, 1, 2])
    )
    model.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("nhwc", TensorProto.FLOAT, ["n", "h", "w", 3])
    )
    onnx.save(model, tmp_path / "nhwc.onnx")
    graph = recorded(tmp_path / "nhwc.onnx", Asked(px=PX))
    assert torch.allclose(graph(images()), small()(images()), atol=1e-5)
    assert "aten.permute.default" not in {str(node.target) for node in graph.graph.nodes}
    with pytest.raises(EdgeKDError, match="--px 224"):
        loader.load(str(tmp_path / "nhwc.onnx"), Asked())
    with pytest.raises(EdgeKDError, match="--layout"):
        loader.load(str(tmp_path / "nhwc.onnx"), Asked(PX, Layout.NCHW))


def test_a_torch_export_program(program: Path) -> None:
    assert torch.allclose(recorded(program)(images()), small()(images()), atol=1e-5)


def test_programs_in_training_form_and_of_the_core_operators(tmp_path: Path) -> None:
    net, example = small(), (torch.zeros(2, 3, PX, PX),)
    macs = foreign_graph.macs(foreign_graph.recorded(net, images()))
    core = torch.export.export(net, example).run_decompositions()
    training = torch.export.export(small().train(), example)
    for name, made in (("core.pt2", core), ("training.pt2", training)):
        torch.export.save(made, tmp_path / name)
        graph = recorded(tmp_path / name)
        assert torch.allclose(graph(images()), net(images()), atol=1e-5), name
        assert foreign_graph.macs(graph) == macs
        ops = {str(node.target) for node in graph.graph.nodes}
        assert {"aten.conv2d.default", "aten.hardtanh.default", "aten.linear.default"} <= ops


def test_a_function_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_networks.py").write_text(
        "from torch import nn\n"
        "def net():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), "
        "nn.Flatten())\n"
        "def number():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    found = loader.load("their_networks:net", Asked(px=PX))
    assert (found.px, found.channels, found.name) == (PX, 3, "net")
    for text, part in (
        ("their_networks:number", "expected a torch.nn.Module"),
        ("their_networks:other", "AttributeError"),
        ("no_such_module:net", "ModuleNotFoundError"),
    ):
        with pytest.raises(EdgeKDError, match=part):
            loader.load(text, Asked(px=PX))
    with pytest.raises(EdgeKDError, match="--px"):
        loader.load("their_networks:net", Asked())
    sys.modules.pop("their_networks")


def test_torchvision_and_timm(tmp_path: Path) -> None:
    assert loader.load("torchvision:squeezenet1_1", Asked()).px == 224
    state = builders.create("mobilenetv2_035", {"num_classes": 3}).state_dict()
    torch.save(state, tmp_path / "mine.pt")
    found = loader.load(f"mobilenetv2_035@{tmp_path / 'mine.pt'}", Asked())
    assert found.module(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    assert found.origin == "mine.pt"
    for text, part in (
        ("torchvision:resnet19", "did you mean 'resnet18'"),
        ("mobilenetv2_035", "name without weights"),
        ("resnet19x@mine.pt", "unknown network"),
    ):
        with pytest.raises(EdgeKDError, match=part):
            loader.load(text, Asked())


def two_inputs(file: Path, model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    onnx.save(model, file)


def strange_operator(file: Path, model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "FusedThing"
    model.graph.node[0].domain = "com.acme"
    onnx.save(model, file)


def weights_elsewhere(file: Path, model: onnx.ModelProto) -> None:
    onnx.save(model, file, save_as_external_data=True, location="w.bin", size_threshold=0)
    (file.parent / "w.bin").unlink()


def old_opset(file: Path, model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 9
    onnx.save(model, file)


def truncated(file: Path, model: onnx.ModelProto) -> None:
    file.write_bytes(model.SerializeToString()[:700])


def quantized(file: Path, model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1), "s"))
    model.graph.node[-1].output[0] = "float"
    model.graph.node.append(helper.make_node("QuantizeLinear", ["float", "s"], ["q"]))
    model.graph.node.append(helper.make_node("DequantizeLinear", ["q", "s"], ["logits"]))
    onnx.save(model, file)


def loop(file: Path, model: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["before", "before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.int64(2), "turns"))
    model.graph.node[-1].output[0] = "float"
    model.graph.node.append(helper.make_node("Loop", ["turns", "", "float"], ["logits"], body=body))
    onnx.save(model, file)


def pointer(file: Path, model: onnx.ModelProto) -> None:
    del model
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")


def nothing(file: Path, model: onnx.ModelProto) -> None:
    del model
    file.touch()


def too_large(file: Path, model: onnx.ModelProto) -> None:
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 4096
    onnx.save(model, file)


def integers(file: Path, model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    onnx.save(model, file)


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (two_inputs, ("2 inputs ('image', 'mask')", "one image input")),
        (strange_operator, ("FusedThing of com.acme", "ONNX's own operators")),
        (weights_elsewhere, ("w.bin", "as one file")),
        (old_opset, ("opset 9, expected 13 to 22", "opset_version")),
        (truncated, ("truncated", "copy the file again")),
        (quantized, ("quantized model", "float model")),
        (loop, ("it holds Loop", "dynamo=False")),
        (pointer, ("a pointer of Git LFS", "git lfs pull")),
        (nothing, ("an empty file", "export the model again")),
        (too_large, ("4096 px; at most 1024", "smaller input")),
        (integers, ("UINT8 with 4 axes", "float32 images")),
    ],
)
def test_an_onnx_file_that_cannot_be_used(
    exported: Path, tmp_path: Path, spoil: Any, parts: tuple[str, ...]
) -> None:
    file = tmp_path / "bad.onnx"
    spoil(file, onnx.load(exported))
    with pytest.raises(EdgeKDError) as refused:
        loader.load(str(file), Asked())
    assert refused.value.exit_code == 2
    for part in ("bad.onnx", *parts):
        assert part in str(refused.value)


class Bomb:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (Path.touch, (self.file,))


def test_nothing_is_unpickled_without_trust(program: Path, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    bare = tmp_path / "bare.pt2"
    bare.write_bytes(pickle.dumps(Bomb(mark)))
    saved = tmp_path / "saved.pt2"
    torch.save({"model": Bomb(mark)}, saved)
    hidden = tmp_path / "hidden.pt2"
    stream = io.BytesIO()
    torch.save((Bomb(mark),), stream)
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(hidden, "w") as copy:
        for name in source.namelist():
            inside = "sample_inputs" in name
            copy.writestr(name, stream.getvalue() if inside else source.read(name))
    bomb = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/models/model.json", b"{}")
        archive.writestr("x/data/weights/weight_0", bytes(2**20))
    for file, part in (
        (bomb, "unpack to"),
        (bare, "a pickle"),
        (saved, "torch.save"),
        (hidden, "--trust"),
    ):
        with pytest.raises(EdgeKDError, match=part) as refused:
            loader.load(str(file), Asked())
        assert file.name in str(refused.value)
        assert refused.value.exit_code == 2
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("none.onnx", "none.onnx"),
        ("none.pt2", "none.pt2"),
        ("weights.pth", "weights alone"),
        ("model.tflite", "edgekd check model.tflite"),
        ("model.h5", "tf2onnx"),
        (".", "is a folder"),
    ],
)
def test_other_files(tmp_path: Path, name: str, part: str) -> None:
    with pytest.raises(EdgeKDError, match=part):
        loader.load(str(tmp_path / name), Asked())


def test_functions_inside_a_model_are_inlined(tmp_path: Path) -> None:
    pytest.importorskip("onnx2pytorch")
    domain, made = "their.own", tiny_onnx.model()
    double = helper.make_function(
        domain,
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    made.functions.append(double)
    made.opset_import.append(helper.make_opsetid(domain, 1))
    made.graph.node[-1].output[0] = "once"
    made.graph.node.append(helper.make_node("Twice", ["once"], ["logits"], domain=domain))
    onnx.save(made, tmp_path / "twice.onnx")
    once = recorded(tiny_onnx.save(tmp_path / "once.onnx"))
    assert torch.allclose(recorded(tmp_path / "twice.onnx")(images()), 2 * once(images()))


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ({"names": '["cat", "dog", "cow"]'}, ("cat", "dog", "cow")),
        ({"names": "{0: 'cat', 1: 'dog', 10: 'cow'}"}, ("cat", "dog", "cow")),
        ({"character": "cat\ndog\ncow"}, ("cat", "dog", "cow")),
        ({"names": "{"}, ()),
        ({"names": "7"}, ()),
    ],
)
def test_names_of_classes_in_the_spellings_of_exporters(
    tmp_path: Path, told: dict[str, str], names: tuple[str, ...]
) -> None:
    pytest.importorskip("onnx2pytorch")
    file = tiny_onnx.save(tmp_path / "named.onnx", metadata=told)
    assert loader.load(str(file), Asked()).classes == names


def test_a_file_that_is_written_again_is_another_network(tmp_path: Path) -> None:
    pytest.importorskip("onnx2pytorch")
    file = tiny_onnx.save(tmp_path / "same.onnx", classes=3)
    config = ConvertConfig(model=str(file))
    assert len(given_network.classes(given_network.network(config))) == 3
    tiny_onnx.save(file, classes=5)
    assert len(given_network.classes(given_network.network(config))) == 5


def not_finite(made: onnx.ModelProto) -> None:
    made.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((8, 3, 3, 3), np.nan, np.float32), "w")
    )


def four_channels(made: onnx.ModelProto) -> None:
    made.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.zeros((8, 4, 3, 3), np.float32), "w")
    )


@pytest.mark.parametrize(
    ("spoil", "part"), [(not_finite, "not finite"), (four_channels, "to have 4 channels")]
)
def test_what_shows_only_when_the_network_runs_names_the_model(
    tmp_path: Path, spoil: Any, part: str
) -> None:
    pytest.importorskip("onnx2pytorch")
    made = tiny_onnx.model()
    spoil(made)
    onnx.save(made, tmp_path / "spoilt.onnx")
    with pytest.raises(EdgeKDError, match=part) as refused:
        given_network.network(ConvertConfig(model=str(tmp_path / "spoilt.onnx")))
    assert "spoilt" in str(refused.value)
    assert "distil.options" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["check", "any.onnx"], "--px 224"),
        (["check", "mobilenetv2_035", "--px", "64"], "data.input_px"),
        (["build", "--student", "any.onnx"], "edgekd convert any.onnx"),
        (["convert", "any.onnx", "--data", ".", "--mean", "123.7,116.3,103.5"], "--mean 0.485098,"),
    ],
)
def test_next_steps_fit_the_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    part: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_onnx.save(tmp_path / "any.onnx", px="side")
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert part in told.partition("next:")[2]


def test_check_takes_a_model_and_offers_no_edit_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx2pytorch")
    file = tiny_onnx.save(tmp_path / "any.onnx", px="side")
    assert cli.main(["check", str(file), "--px", "64", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["edits"] == []
