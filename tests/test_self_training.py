"""A head that trains itself on images without labels, and when it is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from edgekd.app import build
from edgekd.core.artifacts import Dataset, Network
from edgekd.core.context import Context
from edgekd.core.shard_folders import MemoryShards
from edgekd.data import dataset_builder, phantom, source_registry
from edgekd.pipeline import teacher_stages
from edgekd.pipeline.stage_settings import TeacherSettings
from edgekd.pipeline.stages import teacher
from edgekd.settings import recipe
from edgekd.settings.model_specs import spec
from edgekd.settings.recipe import DataConfig, TeacherConfig, ViewsConfig
from edgekd.training import linear_head
from edgekd.training.linear_head import Head, Validated
from edgekd.training.self_training import SelfTraining
from edgekd.training.view_features import Features
from tests import small_vit
from tests.small_vit import PX, VIT

WIDTH, CLASSES, NOISE = 60, 3, 1.0


def clouds(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two views of `count` images of CLASSES kinds [2, count, WIDTH], and their labels.

    The kinds differ in few of the features, and each kind in directions of its own.
    """
    centres = torch.zeros(CLASSES, WIDTH)
    for k in range(CLASSES):
        centres[k, 4 * k : 4 * k + 4] = 1.5
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    own = centres[labels] + torch.randn(count, WIDTH, generator=draw)
    return own + NOISE * torch.randn(2, count, WIDTH, generator=draw), labels


def training(known: tuple[Tensor, Tensor], unlabelled: Tensor, rounds: int = 6) -> SelfTraining:
    features, labels = known
    return SelfTraining(
        Features.of(features), labels, Features.of(unlabelled), "one", CLASSES, rounds
    )


def right(head: Head, images: tuple[Tensor, Tensor]) -> float:
    """The share of images whose class the head finds."""
    features, labels = images
    said = F.linear(features[0], head.weight, head.bias)
    return float((said.argmax(1) == labels).float().mean())


@pytest.mark.parametrize("seed", range(4))
def test_images_without_labels_make_a_head_of_few_labels_better(seed: int) -> None:
    known, test = clouds(15, seed), clouds(3000, 100)
    unlabelled, _ = clouds(1500, 50 + seed)
    head = linear_head.fit(Features.of(known[0]), known[1], CLASSES, 0.1, 0)
    better = training(known, unlabelled).fit(head)
    assert right(better, test) > right(head, test) + 0.03


def test_a_class_that_most_unlabelled_images_have_does_not_take_over() -> None:
    known, test = clouds(30, 0), clouds(3000, 100)
    features, labels = clouds(3000, 50)
    common = (labels == 0) | (torch.arange(3000) < 300)
    head = linear_head.fit(Features.of(known[0]), known[1], CLASSES, 0.1, 0)
    better = training(known, features[:, common]).fit(head)
    assert right(better, test) > right(head, test)
    said = F.linear(test[0][0], better.weight, better.bias).argmax(1)
    assert (torch.bincount(said, minlength=CLASSES) > 0.7 * 1000).all()


def test_a_single_image_without_a_label_does_no_harm() -> None:
    known, test = clouds(90, 0), clouds(3000, 100)
    head = linear_head.fit(Features.of(known[0]), known[1], CLASSES, 0.1, 0)
    same = training(known, clouds(1, 50)[0][:1]).fit(head)
    assert right(same, test) > right(head, test) - 0.05


def test_no_round_leaves_the_head_as_it_is() -> None:
    known, unlabelled = clouds(30, 0), clouds(300, 50)[0]
    head = linear_head.fit(Features.of(known[0]), known[1], CLASSES, 0.1, 0)
    same = training(known, unlabelled, 0).fit(head)
    torch.testing.assert_close(same.weight, head.weight)
    torch.testing.assert_close(same.bias, head.bias, atol=1e-5, rtol=1e-5)


def test_every_label_of_several_is_learned_and_an_unknown_one_left_out() -> None:
    features, classes = clouds(15, 1)
    labels = F.one_hot(classes, CLASSES).float()
    labels[::5, 1] = torch.nan
    unlabelled, _ = clouds(1500, 60)
    head = linear_head.fit(Features.of(features), labels, CLASSES, 0.1, 0)
    trained = dataclasses.replace(training((features, labels), unlabelled), kind="many")
    better = trained.fit(head)
    test = clouds(3000, 100)
    assert right(better, test) > right(head, test) + 0.02
    assert trained.held_out(0.1, 0).each.isfinite().all()


def test_the_cross_validation_sees_no_image_that_it_judges() -> None:
    """Where labels mean nothing, no image is known before it is judged."""
    features, _ = clouds(60, 2)
    labels = torch.randint(0, CLASSES, (60,), generator=torch.Generator().manual_seed(1))
    found = training((features, labels), clouds(300, 50)[0]).held_out(0.1, 0)
    assert len(found.each) == 60
    assert found.loss > 1.0  # ln 3 = 1.1 is what guessing gives


def test_a_head_is_left_out_where_it_holds_out_worse_by_more_than_chance() -> None:
    own = torch.linspace(0.2, 1.8, 50)
    noise = torch.tensor([1.0, -1.0]).repeat(25)
    error = float(noise.std()) / 50**0.5
    before = Validated(0.1, own)
    for lost, worse in ((1.1 * error, True), (0.9 * error, False), (-1.0, False)):
        assert Validated(0.01, own + lost + noise).worse_than(before) is worse


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """120 labelled phantoms, and 40 without labels."""
    root = tmp_path_factory.mktemp("phantoms")
    for number in range(160):
        folder = root / "more" if number >= 120 else root / "known" / phantom.label(number)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(phantom.render(0, number, PX)).save(folder / f"{number}.png")
    settings = DataConfig(source=str(root / "known"), unlabelled=str(root / "more"))
    return dataset_builder.build_dataset(source_registry.open_all(settings), settings)


def made(dataset: Dataset, weights: Path, rounds: int) -> tuple[Network, int]:
    """A frozen teacher, and how many answers its backbone gave."""
    asked = []

    def progress(what: str, done: int, total: int, **figures: float) -> None:
        if what == "teacher views" and done == total:
            asked.append(total)

    folders: dict[str, MemoryShards] = {}
    config = TeacherConfig(
        name=VIT,
        mode="frozen",
        weights=str(weights),
        precision="float32",
        head_decay=1.0,
        head_features="class",
        self_training=rounds,
    )
    found = teacher.run(
        dataset,
        settings=TeacherSettings(config, spec(VIT), ViewsConfig(per_image=3), PX),
        context=Context(
            seed=3,
            progress=progress,
            answers=lambda what: folders.setdefault(str(what), MemoryShards(str(what))),
        ),
    )
    return found, sum(asked)


def test_the_better_of_both_heads_teaches_and_both_are_told(
    dataset: Dataset, tmp_path: Path
) -> None:
    weights = small_vit.saved(tmp_path)
    found, asked = made(dataset, weights, 3)
    first, second = found.facts["steps"]
    assert first["step"] == "linear head on the class token"
    assert second["step"] == f"{first['step']}, self-trained on images without labels (40)"
    assert second["kept"] is not first["kept"]
    assert second["kept"] or second["held_out"] > first["held_out"]
    kept = second if second["kept"] else first
    assert kept["top1"] == found.facts["metrics"]["val"]["top1"]
    alone, fewer = made(dataset, weights, 0)
    assert [step["step"] for step in alone.facts["steps"]] == [first["step"]]
    assert asked == fewer + 2 * 40  # two views of each image, which the student sees, too


def test_self_training_is_for_frozen_teachers_with_images_without_labels(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    Image.new("L", (PX, PX)).save(tmp_path / "more" / "1.png")

    def rounds(*sets: str) -> int:
        settings = recipe.load(None, sets, {"data.source": "phantom:80"})
        return teacher_stages.settings(build.job(settings, "pi4")).config.self_training

    more, frozen = f"data.unlabelled={tmp_path / 'more'}", "teacher.mode=frozen"
    named = "teacher.name=tf_efficientnet_lite0"
    assert rounds(more, frozen, named) == TeacherConfig.self_training > 0
    assert rounds(frozen, named) == rounds(more, named) == 0
