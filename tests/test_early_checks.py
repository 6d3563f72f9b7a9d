"""What a build refuses before its first stage, by the recipe, its files and the network alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgekd.app import cli
from edgekd.core.errors import GateFailed
from edgekd.data.phantom_source import PhantomSource
from edgekd.networks import builders, pruning_check
from edgekd.settings import model_specs
from edgekd.settings.recipe import PruneConfig

NAMES = [item.name for item in PhantomSource(80, 32).items()]


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def refused(capsys: pytest.CaptureFixture[str], out: Path, *words: str) -> str:
    """What a build says that was refused with exit code 2, and before any stage ran."""
    given = ["build", "--data", "phantom:80@32", "--out", str(out), *words]
    if "--teacher" not in words:
        given += ["--teacher", "none"]
    assert cli.main(given) == 2
    said = capsys.readouterr().err
    assert said.count("edgekd: error: ") == 1, said
    assert not (out / "store").exists() or not list((out / "store").iterdir())
    return said


def settings(*texts: str) -> list[str]:
    return [word for text in texts for word in ("--set", text)]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (settings("subgroups.column=nosuch"), ("subgroups.column", "nosuch")),
        (settings("qat.pin=foo"), ("qat.pin", "EDGE=PERCENTILE")),
        (settings("distil.labels=withheld"), ("distil.labels", "needs a teacher")),
        (settings("distil.losses.fair=1"), ("distil.losses.fair", "distil.groups")),
        (["--teacher", "vit_small_patch14_dinov2", "--teacher-frozen"], ("frozen", "@FILE")),
        (
            ["--teacher", "resnet18", *settings("views.mixup=1", "distil.answers=corrected")],
            ("views.mixup",),
        ),
        (
            [
                *("--teacher", "resnet18"),
                *settings('teacher.others=["resnet18"]', "distil.answers=live"),
            ],
            ("teacher.others",),
        ),
        (["--until", "distill"], ("distill", "did you mean 'distil'")),
    ],
)
def test_settings_that_do_not_fit_each_other(
    words: list[str], parts: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, tmp_path / "out", *words)
    assert all(part in said for part in parts), said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "text", "part"),
    [
        ("distil.groups", "image,group\n" + NAMES[0] + ",a\n", "images have no row"),
        ("distil.groups", "image,grp\nx,a\n", "no column 'group'"),
        ("federated.parts", 'image,group\nx,"a\n', "line 2: a quotation mark is opened"),
        ("distil.logs", "image,time\nx,\n", "neither or both"),
        ("distil.logs", "image,p:a,p:b\nx,1,0\n", "the data's classes are cardiomegaly"),
        ("distil.logs", "image,class_1,p_1\nx,normal,0.9\n", "no row names a training image"),
        ("distil.logs", f"image,class_1,p_1\n{NAMES[0]},normal,high\n", "line 2: the probability"),
        ("distil.logs", f"image,class_1,p_1\n{NAMES[0]},nosuch,1\n", "nosuch"),
    ],
)
def test_tables(
    key: str, text: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "my table.csv", text)
    said = refused(capsys, tmp_path / "out", *settings(f"{key}='{file}'"))
    assert "my table.csv" in said
    assert part in said


@pytest.mark.parametrize("key", ["distil.groups", "distil.logs", "federated.parts"])
def test_files_that_are_not_there(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, tmp_path / "out", *settings(f"{key}='{tmp_path / 'none.csv'}'"))
    assert "none.csv: no such file or directory" in said


def test_weights_are_looked_at_before_the_first_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = "mobilenetv2_035"
    small = settings("data.input_px=32")
    words = [*small, "--until", "distil", "--student"]
    said = refused(capsys, tmp_path / "out", *words, f"{student}@{tmp_path / 'none.pth'}")
    assert "distil.weights" in said
    other = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(3, 3)}, other)
    said = refused(capsys, tmp_path / "out", *words, f"{student}@{other}")
    assert f"other.pth does not fit {student}" in said
    teacher = ["--teacher", f"resnet18@{other}"]
    said = refused(capsys, tmp_path / "out", *teacher, *small, "--student", student)
    assert "other.pth does not fit resnet18" in said


@pytest.mark.parametrize(
    ("config", "multiple", "said"),
    [
        (PruneConfig(target_macs=1000), 8, "cannot be reached"),
        (PruneConfig(ratio=0.0001), 1, "MACs do not fall"),
    ],
)
def test_a_cut_that_cannot_be_made(config: PruneConfig, multiple: int, said: str) -> None:
    state = torch.get_rng_state()
    with pytest.raises(GateFailed, match=said):
        pruning_check.check(model_specs.spec("mobilenetv2_035"), config, multiple, 32, 2)
    assert torch.equal(state, torch.get_rng_state())


def test_a_cut_that_can_be_made() -> None:
    spec = model_specs.spec("mobilenetv2_035")
    pruning_check.check(spec, PruneConfig(ratio=0.5), 8, 32, 2)


def test_weights_of_five_axes_can_be_built() -> None:
    net = builders.create("lambda_resnet26t", {"num_classes": 2})
    assert any(tensor.dim() == 5 for tensor in net.parameters())
