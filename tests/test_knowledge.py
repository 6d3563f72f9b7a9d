"""Asking the teacher: a run that is killed asks on from the view it was at, and ends with the same
bytes.
"""

from __future__ import annotations

import dataclasses

import pytest

from edgekd.core.artifacts import Dataset, Knowledge, Network
from edgekd.core.context import Context, MemoryCheckpoint
from edgekd.data import dataset_builder
from edgekd.data.phantom_source import PhantomSource
from edgekd.pipeline.stage_settings import KnowledgeSettings
from edgekd.pipeline.stages import knowledge
from edgekd.settings import model_specs
from edgekd.settings.recipe import DataConfig, ViewsConfig
from edgekd.training.oracle_settings import OracleSettings
from tests import teachers

PX, VIEWS = 32, 3


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return dataset_builder.build_dataset(PhantomSource(120, 40), DataConfig())


@pytest.fixture(scope="module")
def teacher(dataset: Dataset) -> Network:
    return teachers.teacher("resnet18", len(dataset.classes), PX)


class Killed(Exception):
    """The process ends here."""


class Asked:
    """A progress that counts images, and is killed when there were `most`."""

    def __init__(self, most: int = 10**9) -> None:
        self.most, self.seen = most, 0

    def __call__(self, what: str, done: int, total: int, **figures: float) -> None:
        self.seen += 1
        if done > self.most:
            raise Killed


def ask(dataset: Dataset, teacher: Network, context: Context) -> Knowledge:
    return knowledge.run(
        dataset,
        teacher,
        settings=KnowledgeSettings(
            ViewsConfig(per_image=VIEWS),
            OracleSettings("float32", model_specs.spec("resnet18"), grid_side=1, cam_side=1),
        ),
        context=context,
    )


def test_a_killed_run_goes_on_with_the_next_view(dataset: Dataset, teacher: Network) -> None:
    whole = Asked()
    wanted = ask(dataset, teacher, Context(progress=whole))
    images, checkpoint = len(wanted.rows), MemoryCheckpoint()
    with pytest.raises(Killed):
        ask(dataset, teacher, Context(progress=Asked(2 * images), checkpoint=checkpoint))
    rest = Asked()
    found = ask(dataset, teacher, Context(progress=rest, checkpoint=checkpoint))
    assert dataclasses.asdict(found) == dataclasses.asdict(wanted)
    assert rest.seen * VIEWS == whole.seen


def test_a_torn_checkpoint_is_no_checkpoint(dataset: Dataset, teacher: Network) -> None:
    wanted, checkpoint = ask(dataset, teacher, Context()), MemoryCheckpoint()
    checkpoint.save(b"torn")
    assert bytes(ask(dataset, teacher, Context(checkpoint=checkpoint)).logits) == bytes(
        wanted.logits
    )
