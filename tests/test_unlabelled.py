"""A folder of images without labels: who labels them, where they are used, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from edgekd.app import build, cli
from edgekd.core.artifacts import Dataset
from edgekd.core.errors import DataError, RecipeError
from edgekd.data import dataset_builder, datasets, input_builder, phantom, source_registry
from edgekd.settings import recipe
from edgekd.settings.recipe import DataConfig, DistilConfig, ViewsConfig
from edgekd.training import views
from edgekd.training.batches import Feed
from edgekd.training.cached_answers import CachedAnswers
from edgekd.training.fit import balanced
from edgekd.training.lesson import lesson
from edgekd.training.teacher_answers import TeacherAnswers
from tests.answers import told
from tests.small_build import STUDENT, STUDENT_OPTIONS, TEACHER


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labelled/CLASS/*.png, not divided; more/: 30 images at two depths, a hidden one, a text."""
    root = tmp_path_factory.mktemp("unlabelled")
    for index in range(120):
        write(
            root / "labelled" / phantom.label(index) / f"{index}.png", phantom.render(0, index, 40)
        )
    for index in range(200, 230):
        write(
            root / "more" / ("deep" if index % 2 else ".") / f"{index}.png",
            phantom.render(0, index, 40),
        )
    write(root / "more" / ".hidden" / "x.png", phantom.render(0, 300, 40))
    (root / "more" / "notes.txt").write_text("no image")
    return root


def config(root: Path, more: str = "more", **settings: object) -> DataConfig:
    return DataConfig(
        source=str(root / "labelled"),
        unlabelled=str(root / more),
        **settings,  # type: ignore[arg-type]
    )


def made(settings: DataConfig) -> Dataset:
    return dataset_builder.build_dataset(source_registry.open_all(settings), settings)


def test_they_are_neither_split_nor_counted_as_a_class(folders: Path) -> None:
    dataset = made(config(folders))
    alone = made(DataConfig(source=str(folders / "labelled")))
    assert dataset.facts["unlabelled"] == {
        "images": 30,
        "in_val_or_test": 0,
        "in_train": 0,
        "repeated": 0,
    }
    assert dataset.images[:120] == alone.images  # the same splits, and their places
    assert (dataset.classes, dataset.facts["counts"], dataset.facts["groups"]) == (
        alone.classes,
        alone.facts["counts"],
        alone.facts["groups"],
    )
    assert (datasets.labels(dataset)[120:] == -1).all()
    assert len(datasets.taught(dataset)) == len(datasets.rows(dataset, "train")) + 30
    inputs = input_builder.build_inputs(
        source_registry.open_all(config(folders)), dataset, 32, 0, calibration=500
    )
    assert not set(inputs.rows["calibration"]) & set(datasets.rows(dataset, "unlabelled").tolist())


def test_an_image_of_val_or_test_is_a_leak_and_copies_are_dropped(
    folders: Path, tmp_path: Path
) -> None:
    alone = made(DataConfig(source=str(folders / "labelled")))
    for split, name in (("test", "leak.png"), ("train", "known.png")):
        row = next(row for row in alone.images if row["split"] == split)
        (tmp_path / name).write_bytes((folders / "labelled" / row["name"]).read_bytes())
    for name in ("new.png", "again.png"):
        write(tmp_path / name, phantom.render(0, 400, 40))
    with pytest.raises(DataError, match="test would measure memory") as found:
        made(config(folders, str(tmp_path)))
    assert "'unlabelled/leak.png' = " in str(found.value)
    dataset = made(config(folders, str(tmp_path), duplicates="drop"))
    assert dataset.facts["unlabelled"] == {
        "images": 1,
        "in_val_or_test": 1,
        "in_train": 1,
        "repeated": 1,
    }
    assert [row["name"] for row in dataset.images if row["split"] == "unlabelled"] == [
        "unlabelled/again.png"
    ]


def test_coloured_images_beside_grey_ones_are_told(folders: Path, tmp_path: Path) -> None:
    write(tmp_path / "red.png", np.full((40, 40, 3), (200, 20, 20), np.uint8))
    assert "coloured, and those with one are grey" in " ".join(
        made(config(folders, str(tmp_path))).facts["warnings"]
    )


@pytest.mark.parametrize(
    ("more", "part"), [("nothing", "is not a folder"), ("empty", "holds no images")]
)
def test_a_folder_without_images(folders: Path, more: str, part: str) -> None:
    (folders / "empty").mkdir(exist_ok=True)
    with pytest.raises(DataError, match=part):
        source_registry.open_all(config(folders, more))


@pytest.mark.parametrize(
    "setting", ["teacher.name=none", "distil.answers=corrected", 'teacher.others=["resnet18"]']
)
def test_what_cannot_use_them_is_refused_before_anything_runs(folders: Path, setting: str) -> None:
    with pytest.raises(RecipeError):
        build.job(
            recipe.load(
                None,
                [setting],
                {
                    "data.source": str(folders / "labelled"),
                    "data.unlabelled": str(folders / "more"),
                },
            ),
            "pi4",
        )


def test_without_a_class_they_weigh_one_and_leave_the_balance_alone() -> None:
    labels = torch.tensor([0, 0, 0, 1, -1, -1])
    weights = balanced(labels, 2)
    assert torch.equal(weights[:4], balanced(labels[:4], 2))
    assert weights[4:].tolist() == [1, 1]


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_the_teacher_says_what_they_show_and_the_labels_what_the_others_do(
    folders: Path, mixup: float
) -> None:
    dataset = made(config(folders))
    rows, labels = (
        torch.from_numpy(datasets.taught(dataset)),
        torch.from_numpy(datasets.labels(dataset)),
    )
    view = ViewsConfig(mixup=mixup)
    logits = torch.randn(1, len(rows), 4, generator=torch.Generator().manual_seed(0))
    feed = Feed(
        views.Renderer(datasets.pixels(dataset), 32, [0.5] * 3, [0.5] * 3),
        datasets.identities(dataset),
        rows,
        labels,
        4,
        view,
        0,
        16,
        knowledge=CachedAnswers(told({"logits": logits})),
    )
    drawn = views.draw(view, 0, 0, datasets.identities(dataset), rows)
    seen = set()
    for batch in feed.epoch(0):
        assert batch.rows is not None
        assert batch.logits is not None
        for row, target, said in zip(batch.rows.tolist(), batch.targets, batch.logits, strict=True):
            partner, share = int(drawn.partner[row]), float(drawn.share[row])
            asked = labels[row] < 0 or (labels[partner] < 0 and share < 1)
            seen.add(bool(asked))
            if asked:
                expected = said.softmax(0)
            else:
                expected = torch.zeros(4)
                expected[labels[row]] += share
                expected[labels[partner]] += 1 - share
            assert torch.allclose(target, expected, atol=1e-6)
    assert seen == {True, False}


def test_they_are_drawn_as_the_class_that_the_teacher_sees(folders: Path) -> None:
    """Class 3 in all but the last, which is class 1."""
    dataset = made(config(folders))
    rows, labels = (
        torch.from_numpy(datasets.taught(dataset)),
        torch.from_numpy(datasets.labels(dataset)),
    )
    numbers = torch.where(labels[rows] < 0, 3, labels[rows])
    numbers[-1] = 1
    said = told({"logits": F.one_hot(numbers, 4)[None]}, rows.tolist())
    renderer = views.Renderer(datasets.pixels(dataset), 32, [0.5] * 3, [0.5] * 3)
    answers = TeacherAnswers.of(dataset, said, ViewsConfig(), 0)
    feed = lesson(dataset, answers, DistilConfig(pooled=0.0), [], renderer).feed
    assert feed.cells is not None
    assert feed.cells[rows].tolist() == numbers.tolist()
    assert torch.equal(feed.labels, labels)  # what they are taught is the teacher's whole answer


def test_a_whole_build_tells_how_many(folders: Path, tmp_path: Path) -> None:
    settings = (
        STUDENT_OPTIONS,
        "data.input_px=32",
        "teacher.epochs=1",
        "distil.epochs=1",
        "distil.balance=loss",
        "qat.epochs=1",
        "views.per_image=1",
        "bench.runs=5",
        "bench.min_seconds=0.05",
        "data.golden=4",
        "data.calibration=16",
        "certify.max_drop=1",
        "certify.min_agreement=0",
    )
    assert (
        cli.main(
            [
                "build",
                "--profile",
                "pi4",
                "--data",
                str(folders / "labelled"),
                "--teacher",
                TEACHER,
                "--student",
                STUDENT,
                "--out",
                str(tmp_path),
                "--until",
                "distil",
                "--set",
                f"data.unlabelled={folders / 'more'}",
                *(part for text in settings for part in ("--set", text)),
            ]
        )
        == 0
    )
    body = json.loads((tmp_path / "report.json").read_text())
    assert body["data"]["unlabelled"]["images"] == 30
    assert body["data"]["train"] + body["data"]["val"] + body["data"]["test"] == 120
    assert "labelled by the teacher" in (tmp_path / "report.html").read_text()
