"""`edgekd convert`: a network of the user's, from a Python function to a certified file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekd.app import cli
from edgekd.data.images import encode_png

PX = 32
QUICK = ("--set", "bench.runs=5", "--set", "bench.min_seconds=0.05")
FUNCTION = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 16, 3, 2, 1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
    )
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module of the user's, 40 images without labels, and 3 of them alone."""
    folder = tmp_path_factory.mktemp("convert")
    (folder / "my_own_network.py").write_text(FUNCTION)
    rng = np.random.default_rng(0)
    for name, count in (("pics", 40), ("few", 3)):
        (folder / name / "deep").mkdir(parents=True)
        for number in range(count):
            picture = rng.integers(0, 256, (PX, PX, 3), np.uint8)
            file = folder / name / ("deep" if number % 2 else "") / f"{number}.png"
            file.write_bytes(encode_png(picture))
    return folder


def convert(place: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.chdir(place)
    return cli.main(["convert", *arguments, *QUICK])


def test_a_function_becomes_a_certified_file_and_its_onnx_the_same_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("my_own_network:net", "--px", "32", "--data", "pics", "--out", "out")
    assert convert(place, monkeypatch, *asked) == 0
    report = json.loads((place / "out" / "report.json").read_text())
    assert report["certificate"]["passed"]
    assert report["data"]["labels_by"] == "network"
    assert [row["stage"] for row in report["stages"]][:3] == ["distil", "data", "inputs"]
    rows = {row["stage"]: row for row in report["accuracy"]["waterfall"]}
    assert rows["student"]["top1"] == 1
    assert list(rows) == ["student", "qat", "onnx", "tflite"]
    assert report["bundle"]["files"] > 20
    told = capsys.readouterr()
    assert "agreement with the float network on" in told.out
    assert "ImageNet's mean and standard deviation are assumed" in told.err
    assert report["data"]["test"] == 20
    assert cli.main(["convert", "out/model.onnx", "--out", "again"]) == 0
    again = (place / "again" / "model.tflite").read_bytes()
    assert again == (place / "out" / "model.tflite").read_bytes()


def test_qat_trains_on_the_networks_own_answers(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("my_own_network:net", "--px", "32", "--data", "pics", "--qat", "1", "--until", "qat")
    assert convert(place, monkeypatch, *asked, "--out", "trained") == 0
    report = json.loads((place / "trained" / "report.json").read_text())
    assert len(report["training"]["qat"]) == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("my_own_network:net", "--px", "32", "--data", "few"), "3 images; at least"),
        (("my_own_network:net", "--px", "32"), "--data is missing"),
        (("my_own_network:net", "--data", "pics"), "--px 224"),
        (("nowhere.onnx", "--data", "pics"), "nowhere.onnx"),
        (("my_own_network:net", "--px", "32", "--data", "pics", "--mean", "a"), "--mean 0.5"),
        (("my_own_network:net", "--px", "32", "--data", "pics", "--mean", "1,2"), "3 numbers"),
    ],
)
def test_bad_input_gets_one_message(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    part: str,
) -> None:
    assert convert(place, monkeypatch, *arguments, "--out", "bad") == 2
    told = capsys.readouterr().err
    assert part in told
    assert "Traceback" not in told


# Three classes by how bright an image is, for pixels of 0..255.
BRIGHTNESS = """
import torch
from torch import nn

class Brightness(nn.Module):
    def forward(self, images):
        level = nn.functional.conv2d(images, torch.full((3, 3, 1, 1), 1 / 3)).mean((2, 3))
        return level * torch.tensor([0.0, 1.0, 2.0]) - torch.tensor([0.0, 85.0, 255.0])

def net():
    return Brightness()
"""


def test_a_wrong_preprocessing_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "bright.py").write_text(BRIGHTNESS)
    rng = np.random.default_rng(1)
    for name, low in (("a dark", 0), ("b middle", 90), ("c bright", 180)):
        (place / "levels" / name).mkdir(parents=True)
        for number in range(24):
            picture = rng.integers(low, low + 70, (PX, PX, 3), np.uint8)
            (place / "levels" / name / f"{number}.png").write_bytes(encode_png(picture))
    asked = (
        "bright:net",
        "--px",
        "32",
        "--data",
        "levels",
        "--until",
        "data",
        "--out",
        "levels_out",
    )
    assert convert(place, monkeypatch, *asked) == 2
    told = capsys.readouterr().err
    assert "preprocessing looks wrong" in told
    assert "--mean 0,0,0 --std 0.00392157,0.00392157,0.00392157" in told
    right = ("--mean", "0,0,0", "--std", "0.00392157,0.00392157,0.00392157")
    assert convert(place, monkeypatch, *asked, *right) == 0
    report = json.loads((place / "levels_out" / "report.json").read_text())
    assert "labels_by" not in report["data"]


def test_check_takes_the_same_models(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    asked = ["check", "my_own_network:net", "--set", "convert.px=32", "--json"]
    assert cli.main(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mapped"]["ops"] == found["mapped"]["mapped"] > 5
