"""Finished networks of the user's that teach as they are, in every form but NAME@WEIGHTS."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from edgekd.app import build, build_settings
from edgekd.app.arguments import Build, Settings
from edgekd.app.settings import recipe_of
from edgekd.core.artifacts import Dataset, ImageRow, Network
from edgekd.core.context import Context
from edgekd.core.errors import EdgeKDError
from edgekd.networks import builders
from edgekd.pipeline.jobs import Teacher, given_spec
from edgekd.pipeline.stage_settings import GivenTeacherSettings, KnowledgeSettings
from edgekd.pipeline.stages import given_teacher as stage
from edgekd.pipeline.stages import knowledge
from edgekd.quantization import given_teacher
from edgekd.settings.convert_settings import ConvertConfig
from edgekd.settings.recipe import TeacherConfig, ViewsConfig
from edgekd.training.oracle_settings import OracleSettings
from tests.tiny_onnx import NCHW, NHWC, save

PX, CLASSES = 32, 3


def config(file: Path, **more: object) -> ConvertConfig:
    return dataclasses.replace(ConvertConfig(model=str(file)), **more)


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, PX, PX, generator=torch.Generator().manual_seed(0))


def dataset(net: torch.nn.Module, mean: float, std: float, *, right: bool = True) -> Dataset:
    """Noise of different colours, labelled by a network's own answers under one normalisation."""
    stream = np.random.default_rng(1)
    tones = stream.integers(0, 256, (60, 3, 1, 1))
    noise = stream.integers(-20, 20, (60, 3, PX, PX))
    pixels = (tones + noise).clip(0, 255).astype(np.uint8)
    with torch.inference_mode():
        answers = net((torch.from_numpy(pixels).float() / 255 - mean) / std).argmax(1).numpy()
    labels = answers if right else (answers + 1) % CLASSES
    rows = [
        ImageRow(
            name=f"{n}.png",
            label=int(label),
            split=("train", "train", "val", "test")[n % 4],
            sha256=f"{n:064x}",
        )
        for n, label in enumerate(labels)
    ]
    return Dataset("noise", ["a", "b", "c"], PX, 3, rows, {}, pixels.tobytes())


def run(data: Dataset, found: ConvertConfig, said: list[str] | None = None) -> Network:
    settings = GivenTeacherSettings(found, "digest", 16, "auto")
    return stage.run(data, settings=settings, context=Context(say=(said or []).append))


@pytest.mark.parametrize("axes", [NCHW, NHWC])
@pytest.mark.parametrize("batch", [1, 4, "n"])
def test_an_onnx_teacher_answers_as_onnx_runtime_does(
    tmp_path: Path, axes: tuple[int, ...], batch: int | str
) -> None:
    file = save(tmp_path / "tiny.onnx", batch=batch, axes=axes)
    made = given_teacher.network(config(file))
    found = builders.restore(made)(images(6)).numpy()
    session, given = onnxruntime.InferenceSession(str(file)), images(8).numpy().transpose(axes)
    size = batch if isinstance(batch, int) else 8
    wanted = [
        session.run(None, {session.get_inputs()[0].name: given[at : at + size]})[0]
        for at in range(0, 8, size)
    ]
    np.testing.assert_allclose(found, np.concatenate(wanted)[:6], rtol=1e-5, atol=1e-6)
    assert made.facts["params"] == 8 * 27 + 8 + 8 * CLASSES
    assert made.facts["macs"] == 16 * 16 * 8 * 27 + 8 * CLASSES


def test_bgr_weights_stay_on_disk_and_in_the_digest(tmp_path: Path) -> None:
    import onnx

    one = save(tmp_path / "one.onnx")
    two = tmp_path / "two.onnx"
    onnx.save(onnx.load(one), two, save_as_external_data=True, location="w.bin", size_threshold=0)
    rgb, bgr = (given_teacher.network(config(two, order=order)) for order in ("rgb", "bgr"))
    answers = builders.restore(bgr)(images(2).flip(1))
    torch.testing.assert_close(answers, builders.restore(rgb)(images(2)))
    before = given_teacher.digest(config(two))
    (tmp_path / "w.bin").write_bytes((tmp_path / "w.bin").read_bytes()[::-1])
    assert given_teacher.digest(config(two)) != before


def test_the_stage_keeps_the_file_and_says_how_good_it_is(tmp_path: Path) -> None:
    file = save(tmp_path / "tiny.onnx", metadata={"mean": "[0.5,0.5,0.5]", "std": "[1,1,1]"})
    net = builders.restore(given_teacher.network(config(file)))
    said: list[str] = []
    made = run(dataset(net, 0.5, 1.0), config(file), said)
    assert made.facts["metrics"]["test"]["top1"] == 1.0
    assert (made.facts["name"], made.facts["mode"]) == ("tiny", "as it is")


def test_a_wrong_preprocessing_is_named_with_the_settings_that_mend_it(tmp_path: Path) -> None:
    file = save(tmp_path / "tiny.onnx")
    data = dataset(builders.restore(given_teacher.network(config(file))), 0.0, 1 / 255)
    wrong = config(file, mean=(4.0,), std=(1.0,))
    with pytest.raises(EdgeKDError, match="preprocessing looks wrong") as refused:
        run(data, wrong)
    assert "--set teacher.mean=[0,0,0] --set teacher.std=[0.00392157," in refused.value.next_step
    # Where nothing helps, nothing is said: the network is merely poor.
    run(dataset(builders.restore(given_teacher.network(wrong)), 0.0, 1.0, right=False), wrong)


def test_the_answers_hold_logits_alone(tmp_path: Path) -> None:
    file = save(tmp_path / "tiny.onnx", metadata={"mean": "[0,0,0]", "std": "[1,1,1]"})
    data = dataset(builders.restore(given_teacher.network(config(file))), 0.0, 1.0)
    view = ViewsConfig(per_image=2)
    oracle = OracleSettings("auto", given_spec(str(file)))
    settings = KnowledgeSettings(view, oracle)
    found = knowledge.run(data, run(data, config(file)), settings=settings, context=Context())
    assert [list(column["names"]) for column in found.columns] == [["logits"]]


@pytest.mark.parametrize(
    ("metadata", "classes", "part"),
    [
        ({}, ["a", "b"], "has 3 outputs, and the data has 2 classes"),
        ({"names": "['b', 'a', 'c']"}, ["a", "b", "c"], "in the order b, a, c"),
        ({"names": "{0: 'a', 1: 'b', 2: 'c'}"}, ["a", "b", "c"], ""),
        ({"character": "x\ny\nz"}, ["a", "b", "c"], ""),  # other words for the same classes
    ],
)
def test_its_classes_must_be_those_of_the_data(
    tmp_path: Path, metadata: dict[str, str], classes: list[str], part: str
) -> None:
    file = save(tmp_path / "tiny.onnx", metadata=metadata)
    made = given_teacher.network(config(file))
    if not part:
        given_teacher.check_outputs(made, str(file), classes)
        return
    with pytest.raises(EdgeKDError, match=part) as refused:
        given_teacher.check_outputs(made, str(file), classes)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({}, "--teacher-as-is"),
        ({"teacher_as_is": True, "settings": ["distil.losses.rkd=1"]}, "distil.losses.rkd=0"),
        ({"teacher": "torchvision:squeezenet1_1", "teacher_as_is": True}, "@DEFAULT"),
    ],
)
def test_what_a_finished_network_cannot_do_is_said_before_any_stage(
    tmp_path: Path, more: dict[str, object], part: str
) -> None:
    file = save(tmp_path / "tiny.onnx", classes=4)
    asked = {"data": "phantom:120", "teacher": str(file), **more}
    with pytest.raises(EdgeKDError) as refused:
        build.prepare(Build(**asked))  # type: ignore[arg-type]
    assert part in refused.value.next_step
    assert refused.value.exit_code == 2


def test_it_is_said_what_is_assumed_and_what_is_left_out(tmp_path: Path) -> None:
    file = save(tmp_path / "tiny.onnx", classes=4, metadata={"license": "MIT"})
    told: list[str] = []
    build.prepare(
        Build(data="phantom:120", teacher=str(file), teacher_as_is=True),
        lambda note: told.append(str(note)),
    )
    text = "\n".join(told)
    assert "ImageNet's mean and standard deviation are assumed" in text
    assert "(distil.pooled) are left out" in text


def test_the_path_of_a_file_may_hold_an_at_sign() -> None:
    assert build_settings.name_and_file("a@b/my.onnx") == ("a@b/my.onnx", "")
    assert build_settings.name_and_file("resnet18@x.safetensors") == ("resnet18", "x.safetensors")
    teacher = Teacher("teacher", "torchvision:resnet18", "DEFAULT")
    assert (teacher.given, teacher.spec.name) == (True, "resnet18")
    assert teacher.as_config(TeacherConfig()).model == "torchvision:resnet18@DEFAULT"


@pytest.mark.parametrize(
    ("student", "settings", "weights"),
    [
        ("resnet18", ["distil.weights=none"], "none"),  # of the same command
        ("resnet18", {"distil.weights": "none"}, "none"),
        ("resnet18", [], ""),  # the recipe's file may mean another network's
        ("resnet18@x.safetensors", [], "x.safetensors"),
    ],
)
def test_a_name_leaves_the_weights_that_the_same_command_sets(
    tmp_path: Path, student: str, settings: Settings, weights: str
) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('[distil]\nstudent = "mobilenetv2_050"\nweights = "w.safetensors"\n')
    own = build_settings.own(Build(file, student=student, settings=settings))
    found = recipe_of(file, settings, own).distil
    assert (found.student, found.weights) == ("resnet18", weights)
