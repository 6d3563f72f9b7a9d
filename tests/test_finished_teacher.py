"""Teachers that are used as they are, teachers with two classifiers, and weights from the hub."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from edgekd.app import build
from edgekd.app.arguments import Build
from edgekd.core.artifacts import Dataset, ImageRow, Network
from edgekd.core.context import Context
from edgekd.core.errors import WeightsError
from edgekd.evaluation.class_order import better_order
from edgekd.networks import builders, timm_networks, weight_files
from edgekd.networks.inference import logits_and_features
from edgekd.pipeline.jobs import teacher_px
from edgekd.pipeline.stage_settings import TeacherSettings
from edgekd.pipeline.stages import teacher
from edgekd.settings.model_specs import spec
from edgekd.settings.recipe import TeacherConfig, ViewsConfig

ARCH, CLASSES, PX = "resnet10t", 3, 32


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The weights of a classifier of three classes, as a user's own training would save them."""
    torch.manual_seed(3)
    file = tmp_path / "mine.safetensors"
    file.write_bytes(
        weight_files.to_bytes(timm.create_model(ARCH, num_classes=CLASSES).state_dict())
    )
    return file


@pytest.fixture
def dataset() -> Dataset:
    splits = ("train", "val", "test")
    rows = [
        ImageRow(name=f"{n}.png", label=n % CLASSES, split=splits[n // 4], sha256=f"{n:064x}")
        for n in range(12)
    ]
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, PX, PX), np.uint8)
    return Dataset("noise", ["a", "b", "c"], PX, 3, rows, {}, pixels.tobytes())


def run(dataset: Dataset, file: Path, said: list[str]) -> Network:
    config = TeacherConfig(name=ARCH, weights=str(file), epochs=0, batch=4)
    settings = TeacherSettings(config, spec(ARCH), ViewsConfig(), PX)
    return teacher.run(dataset, settings=settings, context=Context(say=said.append))


def test_a_finished_teacher_keeps_every_weight(dataset: Dataset, finished: Path) -> None:
    said: list[str] = []
    made = run(dataset, finished, said)
    kept, given = weight_files.from_bytes(made.state), weight_files.read_weights(finished)
    assert kept.keys() == given.keys()
    assert all(torch.equal(kept[name], given[name]) for name in given)
    assert made.facts["mode"] == "as it is"
    assert any("teaches as it is" in text for text in said)


def test_its_classes_must_be_as_many(tmp_path: Path) -> None:
    file = tmp_path / "five.safetensors"
    file.write_bytes(weight_files.to_bytes(timm.create_model(ARCH, num_classes=5).state_dict()))
    with pytest.raises(WeightsError, match="5 outputs, and the data has 3 classes"):
        timm_networks.finished(spec(ARCH), str(file), CLASSES, {})


def test_random_weights_cannot_teach_as_they_are() -> None:
    asked = Build(data="phantom:120", teacher="resnet18", teacher_as_is=True)
    with pytest.raises(WeightsError, match="random weights"):
        build.prepare(asked)


def test_it_sees_images_of_the_size_that_it_was_made_for() -> None:
    given = TeacherConfig(weights="mine.safetensors", epochs=0)
    assert teacher_px(spec("resnet18"), 96, given) == 224
    assert teacher_px(spec("resnet18"), 96, TeacherConfig(weights="mine.safetensors")) == 144


def test_an_order_of_classes_that_fits_better_is_found() -> None:
    assert better_order(np.array([[9, 1, 0], [0, 1, 9], [1, 9, 0]])) == [0, 2, 1]
    assert better_order(np.array([[9, 1, 0], [0, 9, 1], [1, 0, 9]])) is None
    assert better_order(np.array([[4, 5, 1], [4, 5, 1], [3, 4, 3]])) is None  # merely weak


@pytest.mark.parametrize("arch", ["deit_tiny_distilled_patch16_224", "levit_128s"])
def test_a_network_with_two_classifiers_gives_its_own_answers(arch: str) -> None:
    torch.manual_seed(0)
    options = {"num_classes": CLASSES} | ({"img_size": 32} if arch.startswith("deit") else {})
    px = options.get("img_size", 224)
    net = builders.create(arch, options)
    images = torch.randn(2, 3, px, px)
    with torch.inference_mode():
        wanted = net(images)
    found, features = logits_and_features(net, images, torch.float32)
    torch.testing.assert_close(found, wanted)
    assert features.shape == (2, net.num_features)


def test_weights_that_cannot_be_fetched_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as closed:  # a port on which nothing listens
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="the local cache does not have the weights"):
        build.prepare(Build(data="phantom:120", teacher="resnet50@hub"))
