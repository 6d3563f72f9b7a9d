"""What a student is taught: the default recipe against its plain formula, and the same lesson after
a cut.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.core.artifacts import Dataset, Knowledge, Network
from edgekd.core.context import Context
from edgekd.data import dataset_builder, datasets
from edgekd.data.phantom_source import PhantomSource
from edgekd.networks import builders, weight_files
from edgekd.pipeline.stage_settings import DistilSettings, KnowledgeSettings, PruneSettings
from edgekd.pipeline.stages import distil, knowledge, prune
from edgekd.settings import model_specs
from edgekd.settings.recipe import DataConfig, DistilConfig, PruneConfig, ViewsConfig
from edgekd.training import orthogonal, views
from edgekd.training.fit import balanced, shuffled
from edgekd.training.lesson import lesson
from edgekd.training.losses import label_losses
from edgekd.training.oracle_settings import OracleSettings
from edgekd.training.teacher_answers import TeacherAnswers
from edgekd.training.views import generator
from tests import teachers
from tests.answers import arrays, told
from tests.small_build import TEACHER

PX = 64
VIEW = ViewsConfig(per_image=2)
CONFIG = DistilConfig(
    student="mobilenetv2_035", weights="none", epochs=2
)  # the default recipe, on less
STUDENT = model_specs.spec("mobilenetv2_035")
SEED = 3
ASKING = OracleSettings("float32", model_specs.spec(TEACHER))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return dataset_builder.build_dataset(PhantomSource(120, 40), DataConfig())


@pytest.fixture(scope="module")
def teacher(dataset: Dataset) -> Network:
    return teachers.teacher(TEACHER, len(dataset.classes), PX)


@pytest.fixture(scope="module")
def cached(dataset: Dataset, teacher: Network) -> Knowledge:
    return knowledge.run(
        dataset, teacher, settings=KnowledgeSettings(VIEW, ASKING), context=Context(seed=SEED)
    )


def learn(
    dataset: Dataset, said: Knowledge | None, config: DistilConfig, live: Network | None = None
) -> Network:
    return distil.run(
        dataset,
        said,
        live,
        settings=DistilSettings(config, STUDENT, VIEW, PX, oracle=ASKING if live else None),
        context=Context(seed=SEED),
    )


def by_hand(dataset: Dataset, said: Knowledge, config: DistilConfig) -> dict[str, Tensor]:
    """(1 - alpha) CE + alpha KD + ramped VkD under Nesterov's SGD with warm-up, cosine, clipping
    and averaged weights.
    """
    answers = arrays(said)
    torch.manual_seed(SEED)
    student = builders.create("mobilenetv2_035", {"num_classes": len(dataset.classes)})
    nn.init.normal_(student.get_classifier().weight, std=0.01)  # type: ignore[operator]
    nn.init.zeros_(student.get_classifier().bias)  # type: ignore[operator]
    project = orthogonal.Orthogonal(1280, answers["pooled"].shape[-1], generator("adapter", SEED))
    mean, std = builders.normalisation(STUDENT, student)
    render = views.Renderer(datasets.pixels(dataset), PX, mean, std)
    labels, train = torch.from_numpy(datasets.labels(dataset)), torch.tensor(said.rows)
    parameters = [*student.parameters(), *project.parameters()]
    optimiser = torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=1.0,
        momentum=0.9,
        nesterov=True,
    )
    steps = len(train) // config.batch
    total, average = config.epochs * steps, {}
    for index in range(total):
        epoch, number = divmod(index, steps)
        student.train()
        drawn = views.draw(VIEW, SEED, epoch, datasets.identities(dataset), train)
        orders = shuffled(
            len(train), config.batch, SEED, epoch, balanced(labels[train], len(dataset.classes))
        )
        order = list(orders)[number]
        pooled = student.forward_head(
            student.forward_features(render.views(train[order], drawn)),  # type: ignore[operator]
            pre_logits=True,
        )
        logits = student.get_classifier()(pooled)  # type: ignore[operator]
        hard = F.one_hot(labels[train[order]], len(dataset.classes)).float()
        value = (1 - config.alpha) * label_losses.cross_entropy(logits, hard)
        value = value + config.alpha * label_losses.kd(
            logits, answers["logits"][epoch, order].float(), config.temperature
        )
        features = answers["pooled"][epoch, order].float()
        value = value + min(1.0, index / total / 0.2) * F.smooth_l1_loss(
            project(pooled), F.layer_norm(features, features.shape[1:])
        )
        share = index / total
        warm = (share + 1e-3) / (0.1 + 1e-3)
        cosine = 0.5 * (
            1 + torch.cos(torch.tensor(torch.pi * (share - 0.1) / 0.9, dtype=torch.float64)).item()
        )
        for group in optimiser.param_groups:
            group["lr"] = 0.05 * (warm if share < 0.1 else cosine)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        keep = min(0.998, max(0.0, 1 - 5 / total))
        for name, now in student.state_dict().items():
            average[name] = (
                torch.lerp(average[name], now, 1 - keep)
                if name in average and now.is_floating_point()
                else now.clone()
            )
    return average


def test_the_default_student_is_the_plain_formulas_to_the_bit(
    dataset: Dataset, cached: Knowledge
) -> None:
    student = learn(dataset, cached, CONFIG)
    assert student.facts["losses"] == {"labels": pytest.approx(0.1), "logits": 0.9, "pooled": 1.0}
    assert student.facts["lr"] == 0.05
    found, expected = weight_files.from_bytes(student.state), by_hand(dataset, cached, CONFIG)
    assert found.keys() == expected.keys()
    wrong = [name for name, value in expected.items() if not torch.equal(found[name], value)]
    assert not wrong


@pytest.mark.parametrize("balance", ["sample", "loss"])
def test_a_live_teachers_answers_balance_the_classes_where_labels_are_withheld(
    dataset: Dataset, teacher: Network, cached: Knowledge, balance: Any
) -> None:
    """Exactly as cached answers do, so that labels are not used there either."""
    config = dataclasses.replace(CONFIG, epochs=1, labels="withheld", balance=balance)
    swapped = dataclasses.replace(
        dataset,
        images=[
            {**row, "label": (row["label"] + row["label"] % 2) % len(dataset.classes)}
            if row["split"] == "train"
            else row
            for row in dataset.images
        ],
    )
    first = learn(dataset, cached, config)
    for shown in (dataset, swapped):
        live = learn(shown, None, dataclasses.replace(config, answers="live"), teacher)
        assert bytes(live.state) == bytes(first.state)


def test_a_class_that_no_answer_names_has_no_weight(dataset: Dataset, cached: Knowledge) -> None:
    logits = arrays(cached)["logits"].clone()
    logits[..., 1] = -20
    silent = told({"logits": logits, "pooled": arrays(cached)["pooled"]}, cached.rows)
    config = dataclasses.replace(CONFIG, epochs=1, labels="withheld", balance="loss")
    render = views.Renderer(datasets.pixels(dataset), PX, [0.5] * 3, [0.5] * 3)
    answers = TeacherAnswers.of(dataset, silent, VIEW, SEED)
    weights = lesson(dataset, answers, config, list(STUDENT.taps), render).class_weights
    assert weights is not None
    assert bool(torch.isfinite(weights).all())
    assert float(weights[1]) == 0
    answered = logits[0].argmax(1).bincount(minlength=len(dataset.classes))
    others = [k for k in range(len(dataset.classes)) if answered[k]]
    shares = [float(weights[k] * answered[k]) for k in others]
    assert shares == pytest.approx([sum(shares) / len(others)] * len(others))
    learn(dataset, silent, config)  # with weights that are not finite this diverges


@pytest.mark.parametrize("answers", ["live", "corrected"])
def test_a_cut_student_is_taught_by_the_teacher_itself(
    dataset: Dataset, teacher: Network, cached: Knowledge, answers: Any
) -> None:
    """Asked live it is taught to the bit what the cache teaches; asked for corrections, it tells
    how often it was.
    """
    distilled = learn(dataset, cached, dataclasses.replace(CONFIG, epochs=1, pooled=0.0))

    def cut(said: Knowledge | None, by: Network | None, how: Any) -> Network:
        taught = dataclasses.replace(CONFIG, pooled=0.0, answers=how)
        return prune.run(
            dataset,
            said,
            by,
            distilled,
            settings=PruneSettings(
                PruneConfig(ratio=0.5, steps=1, epochs=1),
                taught,
                STUDENT,
                VIEW,
                multiple=8,
                oracle=ASKING if by else None,
            ),
            context=Context(seed=SEED),
        )

    asked = cut(None, teacher, answers)
    assert asked.facts["macs"] < asked.facts["before"]["macs"]
    if answers == "live":
        first = cut(cached, None, "cached")
        assert bytes(asked.state) == bytes(first.state)
        assert asked.history == first.history
    else:
        assert 0 < asked.history[-1]["teacher_calls"] <= asked.history[-1]["views_shown"]
