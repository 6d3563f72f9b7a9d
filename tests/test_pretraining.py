"""A student that learns a teacher's features first: what decides them, and what it starts from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgekd.app import build, cli
from edgekd.core.artifacts import Dataset, Network
from edgekd.core.context import Context, MemoryCheckpoint
from edgekd.core.errors import DataError, RecipeError
from edgekd.core.pause import Paused
from edgekd.data import dataset_builder, datasets, image_sets, phantom
from edgekd.data.phantom_source import PhantomSource
from edgekd.networks import builders, timm_networks, weight_files
from edgekd.pipeline import runner, stage_table
from edgekd.pipeline.jobs import Job
from edgekd.pipeline.pretrain_settings import BackboneSettings, PretrainSettings
from edgekd.pipeline.stage_settings import KnowledgeSettings
from edgekd.pipeline.stages import knowledge, pretrain
from edgekd.settings import model_specs, recipe
from edgekd.settings.recipe import DataConfig, ViewsConfig
from edgekd.training.feature_matching import Spread, Standardised, start
from edgekd.training.oracle_settings import OracleSettings
from tests import teachers
from tests.small_build import STUDENT, STUDENT_OPTIONS, TEACHER

PX = 32
VIT = "test_vit"  # its classifier reads the class token; 64 dimensions


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return dataset_builder.build_dataset(PhantomSource(100, 40), DataConfig())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a backbone without a classifier, as those of self-supervised networks are."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    state = timm_networks.create(TEACHER, {"num_classes": 0}).state_dict()
    path.write_bytes(weight_files.to_bytes(state))
    return path


def settings(weights: Path | None, epochs: int = 2, grid: float = 1.0) -> PretrainSettings:
    spec = model_specs.spec(TEACHER)
    return PretrainSettings(
        epochs=epochs,
        lr=0.0,
        grid=grid,
        batch=16,
        optimiser="sgd",
        weight_decay=5e-4,
        warmup=0.1,
        schedule="cosine",
        ema=0.9,
        seed=0,
        weights="",
        model=model_specs.spec(STUDENT),
        view=ViewsConfig(per_image=2),
        px=PX,
        channels="3",
        oracle=OracleSettings("float32", spec, grid_side=1 if grid else 0),
        backbone=None if weights is None else BackboneSettings(spec, str(weights), "auto", PX),
    )


def relabelled(dataset: Dataset) -> Dataset:
    """The same images in the same splits, with other labels and names, and in another order."""
    images = [
        {**row, "label": None, "name": f"x{number}"} for number, row in enumerate(dataset.images)
    ][::-1]
    pixels = np.ascontiguousarray(datasets.pixels(dataset)[::-1])
    return dataclasses.replace(dataset, classes=[], images=images, pixels=pixels.tobytes())  # type: ignore[arg-type]


def test_labels_names_and_the_order_of_images_change_neither_key_nor_weights(
    dataset: Dataset, weights: Path
) -> None:
    other = relabelled(dataset)
    assert image_sets.digest(other) == image_sets.digest(dataset)
    one, two = (
        pretrain.run(each, settings=settings(weights), context=Context())
        for each in (dataset, other)
    )
    assert one.state == two.state
    assert one.facts["pretrained"]["images"] == len(datasets.taught(dataset))
    assert one.history[-1]["loss"] < one.history[0]["loss"]


def test_what_the_stage_knowledge_asked_is_not_asked_again(dataset: Dataset, weights: Path) -> None:
    asked: list[int] = []

    def progress(what: str, done: int, total: int, **figures: float) -> None:
        if what == "teacher views":
            asked.append(total)

    net, _ = timm_networks.pretrained(model_specs.spec(TEACHER), str(weights), 4, {})
    state = weight_files.to_bytes(net.state_dict())
    mean, std = builders.normalisation(model_specs.spec(TEACHER), net)
    facts = {"name": TEACHER, "mode": "frozen"}
    teacher = Network(TEACHER, {"num_classes": 4}, PX, mean, std, [], facts, state)
    context, once = Context(progress=progress), settings(weights)
    about = KnowledgeSettings(once.view, once.oracle)
    knowledge.run(dataset, teacher, settings=about, context=context)
    assert asked == [len(datasets.taught(dataset)) * once.view.per_image] * len(asked)
    asked.clear()
    pretrain.run(dataset, settings=once, context=context)
    assert set(asked) == {len(datasets.rows(dataset, "val"))}


def test_another_image_or_another_split_changes_the_key(dataset: Dataset) -> None:
    rows = [dict(row) for row in dataset.images]
    place = next(number for number, row in enumerate(rows) if row["split"] == "val")
    rows[place]["split"] = "train"
    moved = dataclasses.replace(dataset, images=rows)  # type: ignore[arg-type]
    assert image_sets.digest(moved) != image_sets.digest(dataset)
    tested = next(number for number, row in enumerate(dataset.images) if row["split"] == "test")
    rest = [row for number, row in enumerate(dataset.images) if number != tested]
    assert image_sets.digest(dataclasses.replace(dataset, images=rest)) == image_sets.digest(
        dataset
    )


def test_a_paused_phase_goes_on_to_the_same_weights(dataset: Dataset, weights: Path) -> None:
    kept, once = MemoryCheckpoint(), settings(weights, grid=0.0)
    with pytest.raises(Paused) as paused:
        pretrain.run(dataset, settings=once, context=Context(checkpoint=kept, pause_after=1))
    assert len(paused.value.network.history) == 1
    whole = pretrain.run(dataset, settings=once, context=Context())
    assert pretrain.run(dataset, settings=once, context=Context(checkpoint=kept)).state == (
        whole.state
    )


def test_the_student_starts_with_the_teachers_head_on_its_features(dataset: Dataset) -> None:
    teacher = teachers.teacher(TEACHER, 4, PX)
    teacher = dataclasses.replace(teacher, facts={"name": TEACHER, "mode": "finetune"})
    made = pretrain.run(dataset, teacher, settings=settings(None), context=Context())
    features, head = builders.restore(made), builders.restore(teacher)
    student = timm_networks.create(STUDENT, {"num_classes": 4})
    start(student, features, head)
    images = torch.rand(3, 3, PX, PX)
    with torch.inference_mode():
        torch.testing.assert_close(
            student.eval()(images),
            head.get_classifier()(features(images)),  # type: ignore[operator]
        )


def test_a_head_that_reads_one_token_takes_its_part_of_the_features() -> None:
    torch.manual_seed(0)
    student = timm_networks.create(STUDENT, {"num_classes": 3})
    features = timm_networks.create(STUDENT, {"num_classes": 2 * 64})
    images = torch.rand(2, 3, PX, PX)
    for read, part in (
        ("class", slice(64)),
        ("mean", slice(64, None)),
        ("class+mean", slice(None)),
    ):
        teacher = timm_networks.create(VIT, {"num_classes": 3, "head_features": read})
        start(student, features, teacher, "class+mean", read)
        with torch.inference_mode():
            torch.testing.assert_close(
                student(images), teacher.get_classifier()(features(images)[:, part])
            )


def test_standardised_features_have_mean_0_and_deviation_1_in_each_dimension() -> None:
    torch.manual_seed(0)
    maps = torch.randn(8, 3, 2, 2) * torch.tensor([1.0, 100.0, 0.0]).view(1, 3, 1, 1) + 5
    found = Standardised(Spread.of(maps.split(3)))(maps).movedim(1, 0).flatten(1)
    assert found.mean(1).abs().max() < 1e-4
    assert torch.allclose(found.std(1, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-4)


def job(*sets: str) -> Job:
    return build.job(
        recipe.load(None, ("data.source=phantom:100@40", f"distil.student={STUDENT}", *sets)), "pi4"
    )


def names(made: Job) -> list[str]:
    return [stage.name for stage in stage_table.stages(made)]


def test_none_runs_no_stage_and_its_settings_stand_in_no_key() -> None:
    plain, given = job(), job("distil.pretrain_epochs=3", "distil.pretrain_lr=0.5")
    assert "pretrain" not in names(plain)
    for name in ("distil", "prune"):
        stage = next(row for row in stage_table.STAGES if row.name == name)
        assert stage.settings is not None
        keys = {runner.key(stage, stage.settings(each), each, {}) for each in (plain, given)}
        assert len(keys) == 1
        settings_of = dataclasses.asdict(stage.settings(plain))
        table = settings_of["config" if name == "distil" else "distil"]
        assert any(key.startswith("pretrain") for key in table)
        assert "pretrain" not in json.dumps(
            runner._without_later(settings_of), default=str
        )  # so that builds of earlier versions keep theirs


def test_what_labels_decide_stands_in_no_setting_of_the_stage(weights: Path) -> None:
    frozen = (
        "distil.pretrain=features",
        f"teacher.name={TEACHER}",
        f"teacher.weights={weights}",
        "teacher.mode=frozen",
    )

    def settings_of(*sets: str) -> object:
        made = job(*frozen, *sets)
        stage = next(row for row in stage_table.stages(made) if row.name == "pretrain")
        assert stage.parents == ("data",)
        assert stage.settings is not None
        return stage.settings(made)

    same = settings_of()
    for text in ("alpha=0.2", "epochs=7", "labels=withheld", "pooled=0", "lr=0.3"):
        assert settings_of(f"distil.{text}") == same
    for text in ("teacher.head_decay=0.5", "prune.ratio=0.3", "qat.epochs=0"):
        assert settings_of(text) == same
    for text in ("distil.pretrain_epochs=7", "distil.seed=1", "views.per_image=3"):
        assert settings_of(text) != same


@pytest.mark.parametrize(
    ("sets", "part"),
    [
        (("teacher.name=none",), "needs the features of a teacher"),
        (("distil.logs=log.csv",), "distil.logs gives answers alone"),
        (("federated.clients=2",), "[federated] gives answers alone"),
        (("teacher.name=net.onnx", "teacher.epochs=0"), "net.onnx gives answers alone"),
    ],
)
def test_a_teacher_without_features_is_refused(sets: tuple[str, ...], part: str) -> None:
    made = recipe.load(None, ("distil.pretrain=features", *sets))
    plain = job()
    with pytest.raises(RecipeError) as refused:
        names(dataclasses.replace(plain, recipe=made))
    assert part in refused.value.what
    assert "--set distil.pretrain=none" in refused.value.next_step


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """20 images beside each other and below one folder."""
    for index in range(20):
        path = tmp_path / "photos" / ("deep" if index % 2 else ".") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(phantom.render(0, index, 40)).save(path)
    return tmp_path / "photos"


def command(photos: Path, *more: str) -> list[str]:
    text = ("data.input_px=32", "views.per_image=1", "distil.pretrain_epochs=1", STUDENT_OPTIONS)
    sets = [part for each in text for part in ("--set", each)]
    return ["build", "--profile", "pi4", "--data", str(photos), "--student", STUDENT, *sets, *more]


def test_a_folder_without_classes_makes_weights_that_another_build_starts_from(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    asked = command(photos, "--teacher", f"{TEACHER}@{weights}", "--teacher-frozen")
    features = ("--set", "distil.pretrain=features")
    terms = ("--set", "teacher.terms=non-commercial")
    assert cli.main([*asked, *features, *terms, "--until", "pretrain", "--out", str(out)]) == 0
    file, said = out / "pretrained.safetensors", capsys.readouterr().out.replace("\n", "")
    assert f"--student {STUDENT}@{file}" in said
    told = f"The student first learned the features of {TEACHER} on 15 images without labels"
    assert told in said
    assert told in (out / "report.html").read_text()
    report = json.loads((out / "report.json").read_text())
    assert report["models"]["pretrained"]["pretrained"]["images"] == 15
    assert report["data"]["classes"] == []

    spec = model_specs.spec(STUDENT).with_options({"act_layer": "relu6"})
    student, origin = timm_networks.pretrained(spec, str(file), 2, spec.options)
    assert origin == f"pretrained.safetensors (features of {TEACHER}, 15 images)"
    known = weight_files.read_weights(file)
    assert torch.equal(student.state_dict()["conv_stem.weight"], known["conv_stem.weight"])
    another = ("--student", f"{STUDENT}@{file}", "--teacher", "none", "--data", "phantom:80@40")
    assert cli.main([*asked, *another, "--set", "card.use=commercial"]) == 1
    told = capsys.readouterr().err.replace("\n", " ")
    assert "(Apache-2.0 (timm); learned from photos (data, not stated: a folder carries" in told
    assert f"{TEACHER} (teacher, not stated for the weights in {weights.name}, for non-comm" in told

    refused = {
        (): "one class only",  # the whole build needs classes
        ("--until", "pretrain"): "distil.pretrain is none",
        (*features, "--until", "pretrain", "--set", "teacher.mode=finetune"): "trained on labels",
    }
    for more, part in refused.items():
        assert cli.main([*asked[:-1], *more, "--out", str(out)]) == 2
        assert part in capsys.readouterr().err.replace("\n", " ")


def test_a_search_does_not_pretrain_each_of_its_students(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["search", "--data", "phantom:100@40", "--profile", "pi4", "--max-size", "2MB"]
    assert cli.main([*asked, "--set", "distil.pretrain=features", "--out", str(tmp_path)]) == 2
    assert "--set distil.pretrain=none" in capsys.readouterr().err


def test_a_folder_without_classes_takes_the_unlabelled_folder_with_it(
    photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    for index in range(3):
        picture = Image.fromarray(phantom.render(0, 50 + index, 40))
        picture.save(tmp_path / "more" / f"{index}.png")
    config = DataConfig(source=str(photos), unlabelled=str(tmp_path / "more"))
    source = build.unsorted.without_classes(config)
    assert source is not None
    made = build.unsorted.build(source, config, [])
    splits = [row["split"] for row in made.images]
    assert {split: splits.count(split) for split in set(splits)} == {
        "train": 15,
        "val": 5,
        "unlabelled": 3,
    }
    assert len(image_sets.rows(made, image_sets.TRAINING)) == 18


def test_too_few_images_without_classes_are_refused(tmp_path: Path) -> None:
    Image.fromarray(phantom.render(0, 0, 40)).save(tmp_path / "one.png")
    made = build.unsorted.without_classes(DataConfig(source=str(tmp_path)))
    assert made is not None
    with pytest.raises(DataError, match="at least 16 are needed to learn features from"):
        build.unsorted.build(made, DataConfig(), [])


def test_a_divided_folder_and_folders_of_classes_have_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
    assert build.unsorted.without_classes(DataConfig(source=str(tmp_path))) is None
    (tmp_path / "beside.png").write_bytes(b"")
    assert build.unsorted.without_classes(DataConfig(source=str(tmp_path))) is not None
    (tmp_path / "train").mkdir()
    assert build.unsorted.without_classes(DataConfig(source=str(tmp_path))) is None
