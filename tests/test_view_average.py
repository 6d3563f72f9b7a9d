"""Answers averaged over views: the mean of cached ones, at no further pass over training images."""

from __future__ import annotations

import pytest
import torch

from edgekd.core.artifacts import Dataset, Knowledge, Network
from edgekd.core.context import Context
from edgekd.core.errors import RecipeError
from edgekd.core.shard_folders import MemoryShards
from edgekd.data import dataset_builder
from edgekd.data.phantom_source import PhantomSource
from edgekd.pipeline.stage_settings import KnowledgeSettings
from edgekd.pipeline.stages import knowledge
from edgekd.settings import recipe
from edgekd.settings.model_specs import spec
from edgekd.settings.recipe import DataConfig, ViewsConfig
from edgekd.training.oracle_settings import OracleSettings
from edgekd.training.view_average import mean_logits
from tests.answers import arrays
from tests.small_build import TEACHER
from tests.teachers import teacher

PX, VIEWS = 32, 3


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return dataset_builder.build_dataset(PhantomSource(100, 32), DataConfig())


class Asked:
    """A context whose folders of answers last, and that counts the answers."""

    def __init__(self) -> None:
        self.images, self.folders = 0, dict[str, MemoryShards]()

    def progress(self, what: str, done: int, total: int, **figures: float) -> None:
        self.images += total if done == total else 0

    def ask(self, dataset: Dataset, *teachers: Network, average: int) -> Knowledge:
        oracle = OracleSettings("float32", spec(TEACHER))
        context = Context(
            progress=self.progress,
            answers=lambda what: self.folders.setdefault(str(what), MemoryShards(str(what))),
        )
        settings = KnowledgeSettings(ViewsConfig(per_image=VIEWS), oracle, average)
        return knowledge.run(dataset, *teachers, settings=settings, context=context)


def test_logits_of_every_teacher_are_the_mean_over_the_next_views(dataset: Dataset) -> None:
    classes = len(dataset.classes)
    first, second = teacher(TEACHER, classes, PX), teacher(TEACHER, classes, PX, seed=1)
    asked = Asked()
    plain = arrays(asked.ask(dataset, first, second, average=1))
    before = asked.images
    said = asked.ask(dataset, first, second, average=2)
    assert asked.images == before  # no pass beyond those of the validation images
    found = arrays(said)
    assert torch.equal(found["pooled"], plain["pooled"])
    for name in ("logits", "others"):
        p = plain[name].float().softmax(-1)
        wanted = (p + p.roll(-1, dims=0)) / 2  # after the last view comes the first
        torch.testing.assert_close(found[name].float().softmax(-1), wanted, rtol=0.01, atol=1e-3)
    one, both = "one view of each image, as the student sees it", "averaged over 2 views"
    steps = [[row["step"] for row in rows] for rows in said.facts["steps"]]
    assert steps == [
        [one, f"its answers {both}", "all 2 teachers together"],
        [one, f"its answers {both}"],
    ]
    assert [row["kept"] for row in said.facts["steps"][0]] == [False, True, True]


def test_the_mean_is_of_probabilities_and_keeps_the_size_of_the_logits() -> None:
    draw = torch.Generator().manual_seed(0)
    each = 5 + 3 * torch.randn(4, 10, 3, generator=draw)
    one = mean_logits(each, "one")
    torch.testing.assert_close(one.softmax(1), each.softmax(2).mean(0))
    torch.testing.assert_close(mean_logits(each[:1].expand(4, -1, -1), "one"), each[0])
    many = mean_logits(each, "many")
    torch.testing.assert_close(many.sigmoid(), each.sigmoid().mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["teacher.average_views=9", "views.per_image=8"], "views.per_image=9"),
        (["teacher.average_views=2", "views.mixup=0.2"], "views.mixup=0"),
        (["teacher.average_views=0", 'distil.answers="live"'], "distil.answers=cached"),
    ],
)
def test_an_average_that_does_not_exist_is_refused(sets: list[str], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe.load(None, sets)
    assert "teacher.average_views" in str(caught.value)
    assert words in caught.value.next_step
