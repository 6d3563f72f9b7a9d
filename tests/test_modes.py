"""Modes of distillation on real small networks: live equals cached, labels withheld, logs, several
teachers, attacks.
"""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekd.app import build
from edgekd.core.artifacts import Dataset, Knowledge, Network
from edgekd.core.context import Context
from edgekd.core.errors import DataError, RecipeError
from edgekd.data import dataset_builder, datasets, source_registry
from edgekd.data.phantom_source import PhantomSource
from edgekd.networks import builders
from edgekd.pipeline.stage_settings import DistilSettings, KnowledgeSettings, LogSettings
from edgekd.pipeline.stage_table import stages
from edgekd.pipeline.stages import distil, knowledge
from edgekd.settings import loss_catalogue, model_specs, recipe
from edgekd.settings.loss_catalogue import METHODS, Term
from edgekd.settings.recipe import DataConfig, DistilConfig, ViewsConfig
from edgekd.training import objective, robustness, teacher_blend, views
from edgekd.training.batches import Batch
from edgekd.training.fit_plan import Step
from edgekd.training.lesson import lesson
from edgekd.training.loss_modules import Setting
from edgekd.training.losses import label_losses
from edgekd.training.oracle_settings import OracleSettings
from edgekd.training.teacher_answers import TeacherAnswers
from edgekd.training.teacher_oracle import Oracle
from edgekd.training.views import generator
from tests.answers import arrays
from tests.small_build import TEACHER
from tests.teachers import teacher

PX = 64  # a last map of 2 x 2: the fewest places that losses on maps allow
VIEW = ViewsConfig(per_image=2)
CONFIG = DistilConfig(student="mobilenetv2_035", weights="none", epochs=2, batch=16, pooled=0.0)
STUDENT = model_specs.spec("mobilenetv2_035")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return dataset_builder.build_dataset(PhantomSource(120, 40), DataConfig())


def asking(arch: str) -> OracleSettings:
    return OracleSettings("float32", model_specs.spec(arch), grid_side=2, cam_side=2)


def asked(arch: str) -> KnowledgeSettings:
    return KnowledgeSettings(VIEW, asking(arch))


def learn(
    dataset: Dataset,
    said: Knowledge | None,
    config: DistilConfig,
    teacher: Network | None = None,
    how: OracleSettings | None = None,
    view: ViewsConfig = VIEW,
) -> Network:
    return distil.run(
        dataset,
        said,
        teacher,
        settings=DistilSettings(config, STUDENT, view, PX, oracle=how),
        context=Context(seed=3),
    )


@pytest.fixture(scope="module")
def resnet(dataset: Dataset) -> Network:
    return teacher(TEACHER, len(dataset.classes), PX)


@pytest.fixture(scope="module")
def cached(dataset: Dataset, resnet: Network) -> Knowledge:
    return knowledge.run(dataset, resnet, settings=asked(TEACHER), context=Context(seed=3))


@pytest.mark.parametrize("arch", [TEACHER, "vit_tiny_patch16_224"])
def test_any_batch_is_answered_as_the_cache_was(dataset: Dataset, arch: str) -> None:
    """To the bit, whatever the batch's size and order; every kind of answer."""
    network = teacher(arch, len(dataset.classes), PX)
    said = knowledge.run(dataset, network, settings=asked(arch), context=Context(seed=3))
    found = arrays(said)
    assert found.keys() == {"logits", "pooled", "grid", "cams"}
    oracle = Oracle(network, datasets.pixels(dataset), asking(arch))
    train = torch.tensor(said.rows)
    drawn = views.draw(VIEW, 3, 1, datasets.identities(dataset), train)
    for order in (
        torch.tensor([5]),
        torch.tensor([9, 3, 9, 30, 1, 0, 2]),
        torch.arange(33).flip(0),
    ):
        for name, value in oracle.ask(train[order], drawn).items():
            assert torch.equal(value, found[name][1, order]), name


def test_a_live_teacher_gives_the_student_that_the_cache_gives(
    dataset: Dataset, resnet: Network, cached: Knowledge
) -> None:
    terms = loss_catalogue.read({"cat": 1, "hcl": 1, "sp": 1}, "test")
    config = dataclasses.replace(CONFIG, pooled=1.0, losses=terms)
    first = learn(dataset, cached, config)
    live = learn(
        dataset, None, dataclasses.replace(config, answers="live"), resnet, asking(TEACHER)
    )
    assert bytes(first.state) == bytes(live.state)
    assert first.history == live.history


def test_withheld_labels_are_not_looked_at(dataset: Dataset, cached: Knowledge) -> None:
    """Wrong labels give the same student, which with labels they do not."""
    swapped = dataclasses.replace(
        dataset,
        images=[
            {**row, "label": (row["label"] + 1) % len(dataset.classes)}
            if row["split"] == "train"
            else row
            for row in dataset.images
        ],
    )
    for labels, same in (("withheld", True), ("given", False)):
        config = dataclasses.replace(
            CONFIG, labels=labels, losses=loss_catalogue.read({"dkd": 1}, "test")
        )
        assert (
            bytes(learn(dataset, cached, config).state)
            == bytes(learn(swapped, cached, config).state)
        ) == same
    with pytest.raises(RecipeError, match="withheld"):
        learn(dataset, None, dataclasses.replace(CONFIG, labels="withheld"))


def test_the_teacher_is_asked_less_the_more_answers_pass(dataset: Dataset, resnet: Network) -> None:
    config = dataclasses.replace(CONFIG, answers="corrected", epochs=3)
    strict = learn(dataset, None, dataclasses.replace(config, top_k=1), resnet, asking(TEACHER))
    lax = learn(
        dataset,
        None,
        dataclasses.replace(config, top_k=len(dataset.classes)),
        resnet,
        asking(TEACHER),
    )
    calls = [network.history[-1]["teacher_calls"] for network in (strict, lax)]
    train = len(datasets.rows(dataset, "train"))
    assert (
        calls[1] <= train < calls[0] <= strict.history[-1]["views_shown"]
    )  # every answer passes: each image is asked once
    with pytest.raises(RecipeError, match="mixup"):
        learn(dataset, None, config, resnet, asking(TEACHER), dataclasses.replace(VIEW, mixup=0.2))


def test_a_log_teaches_without_a_teacher(
    dataset: Dataset, cached: Knowledge, tmp_path: Path
) -> None:
    """The full log of what a teacher said about plain views is that knowledge, to the float16 it is
    kept in.
    """
    said = arrays(cached)["logits"][:1].float()
    file = tmp_path / "log.csv"
    with file.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["image", "sha256", *(f"p:{name}" for name in dataset.classes)])
        for row, p in zip(cached.rows, said[0].softmax(1).tolist(), strict=True):
            table.writerow([dataset.images[row]["name"], dataset.images[row]["sha256"], *p])
    logged = knowledge.from_logs(
        dataset, settings=LogSettings(str(file), max_days=0.0), context=Context()
    )
    assert logged.rows == cached.rows
    assert logged.facts["hashes_checked"] == len(cached.rows)
    again = arrays(logged)["logits"].float()
    assert torch.allclose(again.softmax(2), said.softmax(2), atol=2e-3)
    student = learn(dataset, logged, dataclasses.replace(CONFIG, pooled=1.0, epochs=1))
    assert "pooled" not in student.facts["losses"]
    assert "left out" in student.facts["notes"][0]
    assert student.facts["log"]["answers"] == len(cached.rows)


def test_groups_are_told_apart(dataset: Dataset, cached: Knowledge, tmp_path: Path) -> None:
    file = tmp_path / "groups.csv"
    file.write_text(
        "image,group\n"
        + "".join(f"{row['name']},{'ab'[n % 2]}\n" for n, row in enumerate(dataset.images))
    )
    config = dataclasses.replace(
        CONFIG, epochs=1, groups=str(file), losses=loss_catalogue.read({"fair": 1}, "test")
    )
    told = learn(dataset, cached, config).facts["groups"]["test"]
    assert set(told["each"]) == {"a", "b"}
    assert sum(row["n"] for row in told["each"].values()) == len(datasets.rows(dataset, "test"))
    shares = {name: row["top1"] for name, row in told["each"].items()}
    assert told["gap"] == pytest.approx(max(shares.values()) - min(shares.values()))
    assert shares[told["worst"]] == min(shares.values())
    with pytest.raises(RecipeError, match=r"distil\.groups"):
        learn(dataset, cached, dataclasses.replace(config, groups=""))
    with pytest.raises(DataError, match="absent"):
        learn(dataset, cached, dataclasses.replace(config, groups=str(tmp_path / "absent.csv")))


def test_other_groups_teach_anew(tmp_path: Path) -> None:
    """The content of the groups' file is in the settings, so in the keys, of every stage that reads
    it.
    """
    file, source = tmp_path / "groups.csv", "phantom:120@40"
    names = [item.name for item in source_registry.open_source(source).items()]
    rows = "".join(f"{name},a\n" for name in names)
    file.write_text(f"image,group\n{rows}")
    sets = [f'distil.groups="{file}"', "prune.ratio=0.3"]
    job = build.job(recipe.load(None, sets, {"data.source": source}), "pi4")

    def settings() -> dict[str, Any]:
        return {stage.name: stage.settings(job) for stage in stages(job) if stage.settings}

    before = settings()
    file.write_text(f"image,group\n{rows.replace(',a', ',b')}")
    after = settings()
    changed = [name for name in before if before[name] != after[name]]
    assert changed == ["distil", "prune"]


def test_a_cut_leaves_whole_what_the_losses_compare(dataset: Dataset, cached: Knowledge) -> None:
    def read(**weights: float) -> set[str]:
        config = dataclasses.replace(CONFIG, losses=loss_catalogue.read(weights, "test"))
        render = views.Renderer(datasets.pixels(dataset), PX, [0.5] * 3, [0.5] * 3)
        answers = TeacherAnswers.of(dataset, cached, VIEW, 3)
        return set(lesson(dataset, answers, config, list(STUDENT.taps), render).read())

    assert read(dkd=1) == set()
    assert read(cat=1, rkd=1) == {""}
    assert read(hcl=1) == {"blocks.6"}
    assert read(self_exits=1) == {"blocks.2", "blocks.4", "blocks.6"}


# --- several teachers -----------------------------------------------------------------------------


def test_a_corrupted_teacher_loses_its_weight() -> None:
    stream = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    targets = label_losses.soften(labels, 3, 0)
    good = targets * 4 + torch.randn(60, 3, generator=stream)
    broken = good[torch.randperm(60, generator=stream)]
    weights = teacher_blend.confidence(torch.stack([good, good, broken], 1), targets)
    assert torch.allclose(weights.sum(1), torch.ones(60))
    means = weights.mean(0)
    assert float(means[2]) < 0.2 < 0.35 < float(means[0])
    wrong = torch.stack([-(targets * z.log_softmax(1)).sum(1) for z in (good, good, broken)], 1)
    assert torch.allclose(weights, (1 - wrong.softmax(1)) / 2)


def test_without_labels_the_unsure_teacher_is_heard_less() -> None:
    sure, unsure = torch.tensor([[8.0, 0, 0]]), torch.tensor([[0.1, 0, 0]])
    weights = teacher_blend.sureness(torch.stack([sure, unsure], 1))
    assert float(weights[0, 0]) > float(weights[0, 1])


def test_teachers_that_agree_are_one_teacher() -> None:
    student, one = torch.randn(5, 4), torch.randn(5, 4)
    both = torch.stack([one, one + 3], 1)  # a shift is no disagreement
    weights = teacher_blend.confidence(both, label_losses.soften(torch.arange(5) % 4, 4, 0))
    assert torch.allclose(teacher_blend.blend(both, weights).softmax(1), one.softmax(1), atol=1e-6)
    assert torch.allclose(
        teacher_blend.kd(student, both, weights, 3.0), label_losses.kd(student, one, 3.0), atol=1e-5
    )


def test_further_teachers_are_cached_beside_the_first(
    dataset: Dataset, resnet: Network, cached: Knowledge
) -> None:
    other = teacher(TEACHER, len(dataset.classes), PX, seed=1)
    said = knowledge.run(dataset, resnet, other, settings=asked(TEACHER), context=Context(seed=3))
    assert torch.equal(arrays(said)["logits"], arrays(cached)["logits"])
    assert arrays(said)["others"].shape == (2, len(said.rows), 1, len(dataset.classes))
    assert bytes(learn(dataset, said, CONFIG).state) != bytes(learn(dataset, cached, CONFIG).state)


# --- adversarial views ----------------------------------------------------------------------------


def test_an_attack_stays_in_its_box_and_finds_worse_images() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 36, 4),
    ).train()
    images = torch.rand(6, 3, 8, 8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    answers = net.eval()(images).detach()
    box = {
        "epsilon": torch.full((1, 3, 1, 1), 0.05),
        "low": torch.zeros(1, 3, 1, 1),
        "high": torch.ones(1, 3, 1, 1),
    }
    found = [
        robustness.attack(
            net.train(),
            images,
            lambda z: label_losses.kd(z, answers, 1.0),
            steps=5,
            stream=generator("attack", 0),
            **box,
        )
        for _ in range(2)
    ]
    assert torch.equal(*found)
    assert float((found[0] - images).abs().max()) <= 0.05 + 1e-6
    assert 0 <= float(found[0].min()) <= float(found[0].max()) <= 1
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    noise = images + 0.05 * torch.randn(images.shape).sign()
    net.eval()
    worse = [float(label_losses.kd(net(x), answers, 1.0).detach()) for x in (found[0], noise)]
    assert worse[0] > 2 * worse[1]


# --- every loss, as the recipe builds it ----------------------------------------------------------


def setting(labels: loss_catalogue.Labels, classes: int = 4) -> Setting:
    torch.manual_seed(0)
    student = builders.create("mobilenetv2_035", {"num_classes": classes}).train()
    taps = builders.taps(STUDENT, student)
    student.eval()
    shapes = objective.shapes(student, taps, PX, 3)
    student.train()
    return Setting(
        student,
        taps,
        shapes,
        classes,
        labels,
        0,
        [0.5] * 3,
        [0.5] * 3,
        {"pooled": 24, "grid": 24},
        True,
        lambda: builders.create("mobilenetv2_035", {"num_classes": classes}),
        torch.arange(8) % 2,
    )


def batch(labels: loss_catalogue.Labels, classes: int = 4, b: int = 8) -> Batch:
    stream = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(b, *shape, generator=stream)

    one = label_losses.soften(torch.arange(b) // 2 % classes, classes, 0)
    return Batch(
        drawn(3, PX, PX).clamp(-1, 1),
        one if labels == "one" else (drawn(classes) > 0).float(),
        drawn(classes),
        drawn(24),
        drawn(24, 2, 2),
        drawn(classes, 2, 2),
        rows=torch.arange(b),
    )


def test_the_size_of_the_answers_is_told_before_they_are_there(
    dataset: Dataset, resnet: Network
) -> None:
    told: list[str] = []
    context = Context(seed=3, say=told.append, progress=lambda *_, **__: told.append("progress"))
    said = knowledge.run(dataset, resnet, settings=asked(TEACHER), context=context)
    size = sum(value.nbytes for value in arrays(said).values()) / 2**20
    assert f"{said.views} views of {len(said.rows)} images will take {size:.2f} MiB" in told[0]
    assert "progress" in told[1:]


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        *((name, "one") for name in METHODS),
        *((name, "many") for name, method in METHODS.items() if not method.not_many),
    ],
)
def test_every_loss_reaches_the_student_and_all_its_adapters(
    name: str, labels: loss_catalogue.Labels
) -> None:
    at, shown = setting(labels), batch(labels)
    config = dataclasses.replace(
        CONFIG, alpha=0.0, losses=(Term(name, 1.0, 0.0, METHODS[name].defaults),)
    )
    made = objective.Objective(
        config, objective.plan(config, ("logits", "pooled", "grid", "cams"), 4, labels), at
    ).train()
    whole = made.loss(shown, Step(0, 10, 0))
    assert bool(torch.isfinite(whole))
    made.terms[name](made.see(shown.images), shown).backward()
    without = [
        key
        for key, parameter in made.terms.named_parameters()
        if parameter.grad is None and "classifier" not in key
    ]
    assert not without
    moved = sum(float(p.grad.abs().sum()) for p in made.student.parameters() if p.grad is not None)
    assert np.isfinite(moved)
    assert moved > 0


def test_a_term_grows_over_its_ramp() -> None:
    at, shown = setting("one"), batch("one")
    config = dataclasses.replace(CONFIG, alpha=0.0, losses=(Term("sp", 3.0, 0.5, {}),))
    made = objective.Objective(config, objective.plan(config, ("logits", "pooled"), 4), at).eval()
    seen = made.see(shown.images)
    values = [float(made.value(seen, shown, Step(index, 8, 0)).detach()) for index in (0, 2, 4, 7)]
    full = 3 * float(made.terms["sp"](seen, shown).detach())
    assert values[1] - values[0] == pytest.approx(full / 2, rel=1e-4)
    assert values[2] - values[0] == pytest.approx(full, rel=1e-4)
    assert values[3] == values[2]


@pytest.mark.parametrize("name", ["cat", "e2kd", "attention"])
def test_losses_on_places_refuse_a_map_with_one_place(name: str) -> None:
    at = setting("one")
    small = dataclasses.replace(at, shapes={**at.shapes, "last": torch.Size([1, 1280, 1, 1])})
    config = dataclasses.replace(CONFIG, losses=(Term(name, 1.0, None, METHODS[name].defaults),))
    with pytest.raises(RecipeError, match=r"data\.input_px"):
        objective.Objective(config, objective.plan(config, ("logits", "grid", "cams"), 4), small)
