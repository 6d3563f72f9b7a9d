"""Networks with more than one output: the answers stand first, and the others are checked too."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from edgekd.app import cli
from edgekd.core.errors import EdgeKDError
from edgekd.networks.foreign.model import CONVERT, TEACHER, Foreign, Options
from edgekd.networks.foreign.outputs import with_answers_alone
from edgekd.tflite import flatbuffer, ports
from edgekd.tflite.runtime import LiteRunner

PX, CLASSES = 32, 3
NETWORK = "tests.test_several_outputs:network"


class Several(nn.Module):
    """An embedding that the classifier reads through a ReLU, the scores, and a map."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.embed = nn.Linear(8, 12)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = torch.relu(self.norm(self.first(images)))
        embedding = self.embed(maps.mean((2, 3)))
        return embedding, self.head(torch.relu(embedding)), maps


def network() -> nn.Module:
    torch.manual_seed(0)
    return Several().eval()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 5)):
        for colour in range(CLASSES):
            (folder / split / f"c{colour}").mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 150, (PX, PX, 3)).astype(np.uint8)
                pixels[..., colour] += 100
                name = folder / split / f"c{colour}" / f"{number}.png"
                Image.fromarray(pixels).save(name)
    return folder


@pytest.fixture(scope="module")
def built(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An out folder. The classes of the images tell which output is the answers."""
    out = tmp_path_factory.mktemp("out") / "made"
    asked = ["--px", str(PX), "--profile", "coral-usb", "--data", str(images), "--out", str(out)]
    short = ["--set", "bench.runs=2", "--set", "bench.min_seconds=0", "--mean", "0.5", "--std"]
    assert cli.main(["convert", NETWORK, *asked, *short, "0.25"]) == 0
    return out


def record(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_the_file_gives_all_outputs_as_the_float_network_does(built: Path, images: Path) -> None:
    runner = LiteRunner((built / "model.tflite").read_bytes())
    assert [tensor.name for tensor in runner.outputs] == ["output", "output_0", "output_2"]
    assert {tensor.dtype for tensor in runner.outputs} == {"INT8"}
    picture = np.asarray(Image.open(next((images / "test").rglob("*.png"))))
    scores = runner.codes(picture[None])
    real = torch.tensor(picture / 255.0).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        embedding, logits, maps = network()((real - 0.5) / 0.25)
    expected = {"output": logits, "output_0": embedding, "output_2": maps.permute(0, 2, 3, 1)}
    found = {"output": scores, **runner.further_codes()}
    for tensor in runner.outputs:
        grid = (found[tensor.name] - float(tensor.zero_point[0])) * tensor.scale[0]
        assert np.corrcoef(grid.ravel(), expected[tensor.name].ravel())[0, 1] > 0.99


def test_the_records_tell_of_every_output(built: Path) -> None:
    report, certificate = record(built, "report.json"), record(built, "certificate.json")
    assert [row["name"] for row in report["accuracy"]["further_outputs"]] == [
        "output_0",
        "output_2",
    ]
    assert all(row["cosine"] > 0.99 for row in report["accuracy"]["further_outputs"])
    assert [row["name"] for row in report["artifact"]["further"]] == ["output_0", "output_2"]
    rows = certificate["further_outputs"]
    assert [row["axes"] for row in rows] == [[0, 1], [0, 2, 3, 1]]
    assert min(row["same_codes"] for row in rows) > 0.98
    assert max(row["max_abs_lsb"] for row in rows) <= 1
    assert [row["max_abs_lsb"] for row in report["bench"][0]["golden"]["further"]] == [0, 0]
    assert cli.main(["verify", str(built)]) == 0


def test_a_bundle_names_the_other_outputs(built: Path) -> None:
    stated = record(built, "bundle/deployment.json")["further_outputs"]
    graph = flatbuffer.read((built / "bundle/model.tflite").read_bytes())
    assert [row["tensor"] for row in stated] == [
        graph.tensors[index].name for index in graph.outputs[1:]
    ]
    assert [row["index"] for row in stated] == [1, 2]
    certified = (built / "model.tflite").read_bytes()
    inside = ports.core(certified)
    assert ports.core(ports.with_ports(certified, "float32")) == inside
    assert len(LiteRunner(inside).outputs) == 3
    assert cli.main(["verify", str(built / "bundle")]) == 0


def test_model_onnx_gives_the_same_bytes_again(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    assert cli.main(["convert", str(built / "model.onnx"), "--out", str(out)]) == 0
    assert (out / "model.tflite").read_bytes() == (built / "model.tflite").read_bytes()


def changed_golden(folder: Path) -> None:
    with np.load(folder / "golden.npz") as stored:
        arrays = dict(stored)
    arrays["output_1_int8"] = arrays["output_1_int8"][::-1]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    (folder / "golden.npz").write_bytes(buffer.getvalue())


def swapped_outputs(folder: Path) -> None:
    graph = flatbuffer.read((folder / "model.tflite").read_bytes())
    graph.model.subgraphs[0].outputs = np.array(graph.outputs, np.int32)[[0, 2, 1]]
    (folder / "model.tflite").write_bytes(flatbuffer.write(graph.model))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (changed_golden, ["golden.npz: output_1_int8", "the codes of model.tflite"]),
        (swapped_outputs, ["'outputs': ['output', 'output_2', 'output_0']"]),
    ],
)
def test_verify_finds_a_changed_output(
    built: Path, tmp_path: Path, fault: Any, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model.tflite", "model.onnx", "golden.npz", "labels.txt"):
        (tmp_path / name).write_bytes((built / name).read_bytes())
    for name in ("certificate.json", "report.json"):
        (tmp_path / name).write_bytes((built / name).read_bytes())
    fault(tmp_path)
    assert cli.main(["verify", str(tmp_path)]) == 1
    printed = " ".join("".join(capsys.readouterr()).split())
    assert all(part in printed for part in told), printed


def test_training_would_let_the_other_outputs_drift(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["convert", NETWORK, "--px", str(PX), "--data", str(images), "--qat", "1"]
    assert cli.main([*asked, "--out", str(tmp_path / "out")]) == 2
    assert "--outputs output_1" in " ".join(capsys.readouterr().err.split())


class Gives(nn.Module):
    """Gives what a function makes of the image's mean for each channel, [n, 3]."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def forward(self, images: torch.Tensor) -> Any:
        return self.make(images.mean((2, 3)))


def given(make: Any, wanted: tuple[str, ...] = (), options: Options = CONVERT) -> Foreign:
    found = Foreign("net", Gives(make), 4, 3, "", "", classes=("a", "b", "c"))
    return with_answers_alone(found, wanted, options)


@pytest.mark.parametrize(
    ("make", "wanted", "outputs"),
    [
        (lambda x: x, (), ()),
        (lambda x: [x], (), ("output_0",)),
        (lambda x: (x[:, :2], x), (), ("output_1", "output_0")),
        (lambda x: {"probs": x / 2, "logits": x, "none": None}, (), ("logits", "probs")),
        (lambda x: {"a": {"b": x}, "c": (x * 2, x[:, :2])}, ("c.0",), ("c.0",)),
        (lambda x: {"out/1:0": x, "input": x[:, :2]}, (), ("out_1_0", "input_")),
    ],
)
def test_the_answers_are_found_and_come_first(
    make: Any, wanted: tuple[str, ...], outputs: tuple[str, ...]
) -> None:
    found = given(make, wanted)
    assert found.outputs == outputs
    answer = found.module(torch.rand(2, 3, 4, 4))
    assert isinstance(answer, torch.Tensor)
    assert answer.shape == (2, 3)


@pytest.mark.parametrize(
    ("make", "wanted", "options", "told"),
    [
        (lambda x: (x, x * 2), (), CONVERT, "--outputs output_0,output_1"),
        (lambda x: (x, x * 2), (), TEACHER, "logits alone"),
        (lambda x: (x, x * 2), ("logits",), CONVERT, "has no such output"),
        (lambda x: (x, x[0]), (), CONVERT, "leave it out: --outputs output_0"),
        (lambda x: (x, x.argmax(1, keepdim=True)), (), CONVERT, "int64"),
        (lambda x: {"logits": x, "same": x}, (), CONVERT, "are the same tensor"),
        (lambda x: (x[:, :1], x[:, 0]), (), CONVERT, "logits [1, classes]"),
    ],
)
def test_unclear_outputs_are_one_message(
    make: Any, wanted: tuple[str, ...], options: Options, told: str
) -> None:
    with pytest.raises(EdgeKDError) as refused:
        given(make, wanted, options)
    assert told in f"{refused.value.what}; {refused.value.next_step}"
