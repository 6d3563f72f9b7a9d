"""Asking the teacher: what is cached is not asked for again, and a killed run loses one shard."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgekd.core.artifacts import Dataset, Json, Knowledge, Network, canonical_json, sha256
from edgekd.core.context import Context, Shards
from edgekd.core.shard_folders import DIGEST, ShardFolder
from edgekd.core.store import Store
from edgekd.data import dataset_builder, datasets
from edgekd.data.phantom_source import PhantomSource
from edgekd.pipeline.stage_settings import KnowledgeSettings
from edgekd.pipeline.stages import knowledge
from edgekd.settings import model_specs
from edgekd.settings.recipe import DataConfig, ViewsConfig
from edgekd.training import answer_cache
from edgekd.training.oracle_settings import OracleSettings
from tests import teachers
from tests.answers import arrays
from tests.small_build import TEACHER

PX, VIEWS, SHARD = 32, 3, 32


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return dataset_builder.build_dataset(PhantomSource(120, 40), DataConfig())


@pytest.fixture(scope="module")
def teacher(dataset: Dataset) -> Network:
    return teachers.teacher(TEACHER, len(dataset.classes), PX)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_cache, "SHARD", SHARD)


class Killed(Exception):
    """The process ends here."""


class Asked:
    """A progress that notes the most images that were asked about, and is killed after `most`."""

    def __init__(self, most: int = 10**9) -> None:
        self.most, self.images = most, 0

    def __call__(self, what: str, done: int, total: int, **figures: float) -> None:
        assert what == "teacher views"
        self.images = done
        if done > self.most:
            raise Killed


Folders = Callable[[Json], Shards]


def folders(store: Path) -> Folders:
    """The folders of a store on disk, as another process would open them."""
    return lambda what: ShardFolder(store / f"answers-{sha256(canonical_json(what))[:16]}")


def ask(
    dataset: Dataset,
    teacher: Network,
    kept: Folders,
    progress: Asked | None = None,
    views: int = VIEWS,
) -> Knowledge:
    return knowledge.run(
        dataset,
        teacher,
        settings=KnowledgeSettings(
            ViewsConfig(per_image=views),
            OracleSettings("float32", model_specs.spec(TEACHER)),
        ),
        context=Context(progress=progress or Asked(), answers=kept),
    )


def same(one: Knowledge, other: Knowledge) -> bool:
    first, second = arrays(one), arrays(other)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_a_killed_run_loses_at_most_one_shard(
    dataset: Dataset, teacher: Network, tmp_path: Path
) -> None:
    whole = Asked()
    wanted = ask(dataset, teacher, folders(tmp_path / "whole"), whole)
    assert whole.images == VIEWS * len(wanted.rows)
    killed, rest = Asked(2 * len(wanted.rows)), Asked()
    with pytest.raises(Killed):
        ask(dataset, teacher, folders(tmp_path / "part"), killed)
    found = ask(dataset, teacher, folders(tmp_path / "part"), rest)
    assert same(found, wanted)
    assert found.shards == wanted.shards
    assert whole.images <= killed.images + rest.images <= whole.images + SHARD


def test_more_views_and_more_images_ask_for_exactly_those(
    dataset: Dataset, teacher: Network, tmp_path: Path
) -> None:
    """The new images stand between the old ones."""
    held = [row for row, image in enumerate(dataset.images) if image["split"] == "train"][3::10]
    fewer = dataclasses.replace(
        dataset,
        images=[
            {**image, "split": "val"} if row in held else image
            for row, image in enumerate(dataset.images)
        ],
    )
    kept = folders(tmp_path)
    first, views, images, again = Asked(), Asked(), Asked(), Asked()
    old = ask(fewer, teacher, kept, first)
    ask(fewer, teacher, kept, views, VIEWS + 4)
    assert first.images == VIEWS * len(old.rows)
    assert views.images == 4 * len(old.rows)
    # In other places, and in a data set of another length.
    grown = dataclasses.replace(
        dataset,
        images=dataset.images[::-1],
        pixels=datasets.pixels(dataset)[::-1].tobytes(),
    )
    found = ask(grown, teacher, kept, images, VIEWS + 4)
    assert images.images == (VIEWS + 4) * len(held)
    assert same(found, ask(grown, teacher, Context().answers, again, VIEWS + 4))


def test_a_damaged_shard_is_asked_for_again(
    dataset: Dataset, teacher: Network, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    kept = folders(store.entries)
    wanted = ask(dataset, teacher, kept)
    key = "a" * 64
    assert store.put("knowledge", key, wanted, 0.0).artifact() == wanted
    (folder,) = store.entries.glob("answers-*")
    shard = min(folder.iterdir())
    shard.write_bytes(shard.read_bytes().replace(b"\0", b"\1", 1))
    assert store.find("knowledge", key) is None
    asked = Asked()
    assert same(ask(dataset, teacher, kept, asked), wanted)
    assert 0 < asked.images <= SHARD
    assert list(folder.glob(".broken-*"))


def test_a_shard_that_another_process_makes_is_waited_for(
    dataset: Dataset, teacher: Network, tmp_path: Path
) -> None:
    kept = folders(tmp_path)
    wanted = ask(dataset, teacher, kept)
    (folder,) = tmp_path.iterdir()
    shard = min(folder.iterdir())
    data, claimed = shard.read_bytes()[:-DIGEST], threading.Event()
    shard.unlink()

    def make() -> None:
        other = ShardFolder(folder)
        with other.claim(shard.name) as mine:
            assert mine
            claimed.set()
            time.sleep(2 * answer_cache.WAIT)
            other.write(shard.name, data)

    process = threading.Thread(target=make)
    process.start()
    assert claimed.wait(10)
    asked = Asked()
    assert same(ask(dataset, teacher, kept, asked), wanted)
    process.join()
    assert asked.images == 0
    assert not list(folder.glob(".*"))


def test_a_frozen_teacher_is_asked_once_whatever_its_head(
    dataset: Dataset, teacher: Network, tmp_path: Path
) -> None:
    frozen = dataclasses.replace(teacher, facts={**teacher.facts, "mode": "frozen"})
    first, second = Asked(), Asked()
    one = ask(dataset, frozen, folders(tmp_path), first)
    other = dataclasses.replace(
        teachers.with_other_head(frozen), facts={**teacher.facts, "mode": "frozen"}
    )
    two = ask(dataset, other, folders(tmp_path), second)
    assert first.images == VIEWS * len(one.rows)
    assert second.images == 0
    assert torch.equal(arrays(one)["pooled"], arrays(two)["pooled"])
    assert not torch.equal(arrays(one)["logits"], arrays(two)["logits"])
