"""Bad input at the command line: one message that names the file or the key, and exit code 2."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image

from edgekd.app import cli


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What stderr says when the command line refuses."""
    capsys.readouterr()
    assert cli.main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert "edgekd: error: " in said
    assert "Traceback" not in said
    return said


def classes(root: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 20) -> Path:
    for number, name in enumerate(names):
        for split, n in (("train", count), ("test", 6)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                Image.effect_noise((24, 24), 20 + i + 50 * number).convert("RGB").save(
                    folder / f"{i}.png"
                )
    return root


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return classes(tmp_path / "my pets")


@pytest.mark.parametrize(
    ("option", "value", "near"),
    [
        ("--profile", "pi44", "pi4"),
        ("--student", "mobilenetv2_05", "mobilenetv2_050"),
        ("--teacher", "resnet81", "resnet18"),
        ("--set", "distil.temprature=2", "distil.temperature"),
        ("--data", "phantm", "phantom"),
        ("--until", "distill", "distil"),
    ],
)
def test_unknown_names_say_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, near: str
) -> None:
    said = refused(capsys, "build", "--out", str(tmp_path / "out"), option, value)
    assert near in said


def build(pets: Path, out: Path, *more: str) -> list[str]:
    return [
        "build",
        "--data",
        str(pets),
        "--out",
        str(out),
        "--student",
        "mobilenetv2_035",
        "--teacher",
        "none",
        "--set",
        "data.input_px=32",
        "--set",
        "distil.epochs=1",
        "--set",
        "distil.batch=8",
        *more,
    ]


def test_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere" in refused(capsys, *build(tmp_path / "nowhere", tmp_path / "o"))
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(capsys, *build(tmp_path / "empty", tmp_path / "o"))
    said = refused(capsys, *build(classes(tmp_path / "one", ("cat",)), tmp_path / "o"))
    assert "class" in said


@pytest.mark.parametrize("kind", ["corrupt", "text", "bomb"])
def test_images_are_named_and_can_be_skipped(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    bad = pets / "train" / "cat" / "bad one.jpg"
    match kind:
        case "corrupt":
            whole = pets / "whole.jpg"
            Image.effect_noise((64, 64), 50).convert("RGB").save(whole, quality=95)
            bad.write_bytes(whole.read_bytes()[:700])
            whole.unlink()
        case "text":
            bad.write_text("this is no picture")
        case "bomb":
            Image.new("1", (30_000, 30_000)).save(bad, format="PNG")
    said = refused(capsys, *build(pets, tmp_path / "o", "--until", "data"))
    assert "bad one.jpg" in said
    assert "data.on_error=skip" in said
    assert (
        cli.main(build(pets, tmp_path / "o", "--until", "data", "--set", "data.on_error=skip")) == 0
    )


def test_an_image_of_one_pixel_is_used(pets: Path, tmp_path: Path) -> None:
    Image.new("L", (1, 1), 200).save(pets / "train" / "cat" / "dot.png")
    assert cli.main(build(pets, tmp_path / "o", "--until", "data")) == 0


def test_weights_of_another_network(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(3, 3)}, other)
    command = build(pets, tmp_path / "o", "--until", "distil")
    command[command.index("mobilenetv2_035")] = f"mobilenetv2_035@{other}"
    said = refused(capsys, *command)
    assert "other.pth" in said
    assert "mobilenetv2_035" in said


class Harm:
    """A pickle that would create a file if anybody opened it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_pickle_as_weights_is_never_opened(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = tmp_path / "evil.pth"
    evil.write_bytes(pickle.dumps(Harm(tmp_path / "harmed")))
    command = build(pets, tmp_path / "o", "--until", "distil")
    command[command.index("mobilenetv2_035")] = f"mobilenetv2_035@{evil}"
    assert "evil.pth" in refused(capsys, *command)
    assert not (tmp_path / "harmed").exists()


def test_nan_in_training_says_the_step(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(
        capsys,
        *build(
            pets,
            tmp_path / "o",
            "--until",
            "distil",
            "--set",
            "distil.lr=1000",
            "--set",
            "distil.weight_decay=10",
            "--set",
            "distil.schedule=onecycle",
            "--set",
            "distil.epochs=3",
        ),
    )
    assert "not finite at step" in said
    assert "--set distil.lr=" in said


def test_an_out_folder_that_is_a_file(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused(capsys, *build(pets, tmp_path / "file"))


@pytest.mark.parametrize("verb", ["bench", "verify"])
def test_a_model_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 50)
    (out / "certificate.json").write_text(
        '{"schema": "edgekd.certificate/1", "passed": true, "failures": []}'
    )
    (out / "report.json").write_text('{"schema": "edgekd.report/1"}')
    assert "model.tflite" in refused(capsys, verb, str(out))


def test_escape_sequences_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "\x1b" not in refused(
        capsys, "build", "--out", str(tmp_path / "o"), "--profile", "pi\x1b[31m4"
    )


def test_new_does_not_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["new", str(tmp_path / "p")]) == 0
    assert "exists" in refused(capsys, "new", str(tmp_path / "p"))
