"""Filling the cache of teachers' answers: who is asked about what, and what is known already.

A column is what one network answers in one way: a teacher its logits and features, or a head its
logits from features that are cached. Its answers lie in a folder of shards, which other builds fill
and read, too. A shard holds the answers about one view of some images.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekd.core.artifact_rows import AnswerColumn
from edgekd.core.artifacts import Dataset, Json, Knowledge, Shards, canonical_json
from edgekd.core.context import Context
from edgekd.core.context import Shards as Folder
from edgekd.data import datasets
from edgekd.settings.recipe import ViewsConfig
from edgekd.training import answer_keys, views
from edgekd.training.cached_answers import KEY, CachedAnswers, decoded, encoded, merged
from edgekd.training.counted_random import Numbers
from edgekd.training.processes import team
from edgekd.training.teacher_oracle import GPU_BLOCK, Answers
from edgekd.training.views import Views

# Images in a shard, which is what a killed process loses. A ViT takes a minute for them on a core.
SHARD = 1024
# Most shards of one view; more images make larger shards.
SHARDS = 256
ASKED = GPU_BLOCK  # images between two reports of progress
WAIT = 0.2  # seconds between two looks at a shard that another process makes


@dataclasses.dataclass(frozen=True)
class Column:
    """What one network answers in one way.

    `what`: JSON that says what decides an answer besides the image and its view. `names`: as in
    `AnswerColumn`. `ask(rows, drawn, number)`: float16 answers by field about the view `number` of
    some images, whose parameters are `drawn`. `slow`: whether asking deserves to be reported.
    """

    what: Json
    names: dict[str, str]
    ask: Callable[[Tensor, Views, int], Answers]
    slow: bool = True


@dataclasses.dataclass(frozen=True)
class Shown:
    """The views that teachers are asked about.

    `rows`: the images, int64 [n]. `view` and `seed` draw the views, of which there are `count`.
    """

    dataset: Dataset
    rows: Tensor
    view: ViewsConfig
    seed: int
    count: int

    @functools.cached_property
    def images(self) -> Numbers:
        """What stands for each image of the data set."""
        return datasets.identities(self.dataset)

    def drawn(self, number: int) -> Views:
        """One view of each image."""
        return views.draw(self.view, self.seed, number, self.images, self.rows)

    def keys(self, number: int) -> Numbers:
        """The key of each answer about one view, uint64 [n], in the order of `rows`."""
        drawn = self.drawn(number)
        return answer_keys.of_view(self.view, self.seed, number, self.images, self.rows, drawn)


@dataclasses.dataclass(frozen=True)
class Found:
    """The answers of a column about all views. `places`: uint32 [views, n, 2] (see `Knowledge`)."""

    column: AnswerColumn
    places: NDArray[np.uint32]
    shards: Shards


@dataclasses.dataclass(frozen=True)
class _Unit:
    """Answers that belong into one shard. `order`: positions in `Shown.rows`."""

    view: int
    order: NDArray[np.int64]
    keys: Numbers

    @property
    def name(self) -> str:
        return f"{hashlib.sha256(self.keys.tobytes()).hexdigest()[:24]}.npy"


class AnswerCache:
    """Answers about the views of one data set. Asks for those that no folder holds."""

    def __init__(self, shown: Shown, context: Context) -> None:
        self.shown, self.context = shown, context
        self._found: dict[bytes, Found] = {}
        self._drawn = functools.lru_cache(maxsize=1)(shown.drawn)  # many shards are of one view
        self._keys = [shown.keys(number) for number in range(shown.count)]

    def column(self, column: Column) -> Found:
        """The answers of a column about all views. Asks for those that are not there."""
        what = canonical_json(column.what)
        if what not in self._found:
            self._found[what] = self._complete(column)
        found = self._found[what]
        return dataclasses.replace(found, column={**found.column, "names": column.names})

    def _complete(self, column: Column) -> Found:
        folder = self.context.answers(column.what)
        index = _Index(folder)
        units = list(self._units(index))
        asked = sum(len(unit.keys) for unit in units)
        for unit in self._made(folder, column, units, asked):
            index.add(unit.name, unit.keys)
        files, rows = index.find(np.stack(self._keys))
        used, files = np.unique(files, return_inverse=True)
        shards = folder.opened([index.names[number] for number in used])
        places = np.stack([files.reshape(rows.shape), rows], -1).astype("<u4")
        return Found({"names": column.names, "shards": list(shards.digests)}, places, shards)

    def knowledge(self, columns: Sequence[Column], facts: dict[str, Json]) -> Knowledge:
        """The answers of several columns as an artifact."""
        found = [self.column(column) for column in columns]
        return Knowledge(
            views=self.shown.count,
            rows=self.shown.rows.tolist(),
            classes=len(self.shown.dataset.classes),
            facts=facts,
            columns=[each.column for each in found],
            places=np.stack([each.places for each in found]).tobytes(),
            shards=merged([each.shards for each in found]),
        )

    def answers(self, column: Column) -> CachedAnswers:
        """The answers of one column, to be read."""
        return CachedAnswers(self.knowledge([column], {}))

    def _units(self, index: _Index) -> Iterator[_Unit]:
        """What no shard holds yet, divided into shards, one view after another."""
        planned: Numbers = np.empty(0, np.uint64)
        for view, keys in enumerate(self._keys):
            size = max(SHARD, -(-len(keys) // SHARDS))
            _, first = np.unique(keys, return_index=True)  # copies of an image are asked about once
            first.sort()
            missing = first[~index.has(keys[first]) & ~np.isin(keys[first], planned)]
            planned = np.concatenate([planned, keys[missing]])
            for start in range(0, len(missing), size):
                order = missing[start : start + size]
                yield _Unit(view, order, keys[order])

    def _made(
        self, folder: Folder, column: Column, units: list[_Unit], asked: int
    ) -> Iterator[_Unit]:
        """Every unit when its shard is there, by whichever process made it."""
        together, done = team(), 0
        # Each process starts at another place, so that few claims meet.
        start = together.rank * len(units) // together.size
        waiting = units[start:] + units[:start]
        while waiting:
            left = []
            for unit in waiting:
                if not folder.has(unit.name) and not self._claimed(
                    folder, column, unit, done, asked
                ):
                    left.append(unit)
                    continue
                done += len(unit.keys)
                yield unit
            if len(left) == len(waiting):
                time.sleep(WAIT)
            waiting = left

    def _claimed(self, folder: Folder, column: Column, unit: _Unit, done: int, asked: int) -> bool:
        """Make a shard, unless another process is making it. Returns whether it is there."""
        with folder.claim(unit.name) as mine:
            if mine and not folder.has(unit.name):
                folder.write(unit.name, self._answered(column, unit, done, asked))
            return mine

    def _answered(self, column: Column, unit: _Unit, done: int, asked: int) -> bytes:
        drawn = self._drawn(unit.view)
        rows = self.shown.rows[torch.from_numpy(unit.order)]
        parts = []
        for part in rows.split(ASKED):
            told = column.ask(part, drawn, unit.view)
            parts.append({name: value.cpu() for name, value in told.items()})
            if column.slow and not done:
                self._report(parts[0], asked)
            done += len(part)
            if column.slow:
                self.context.progress("teacher views", done, asked)
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return encoded(unit.keys, whole)

    def _report(self, answers: Answers, asked: int) -> None:
        """Say how much is asked and how much space it takes, before most of it is asked for."""
        views, images = self.shown.count, len(self.shown.rows)
        sizes = {name: asked * value[0].nbytes / 2**20 for name, value in answers.items()}
        parts = ", ".join(f"{name} {size:.2f}" for name, size in sizes.items())
        there = views * images - asked
        known = f"; {there} answers are there already, and the others" if there else ""
        self.context.say(
            f"      teacher's answers: {views} views of {images} images{known} will take "
            f"{sum(sizes.values()):.2f} MiB ({parts})"
        )


class _Index:
    """Where the answers in a folder lie, by their keys. `names`: its shards."""

    def __init__(self, folder: Folder) -> None:
        self.names: list[str] = []
        self._keys: list[Numbers] = []
        self._sorted: tuple[Numbers, NDArray[np.int64]] | None = None
        for name in folder.names():
            self.add(name, np.array(decoded(folder.read(name))[KEY]))

    def add(self, name: str, keys: Numbers) -> None:
        """Note the keys of a shard, in the order of its rows."""
        self.names.append(name)
        self._keys.append(keys)
        self._sorted = None

    def has(self, keys: Numbers) -> NDArray[np.bool_]:
        """Which keys there are answers for."""
        known, _ = self._in_order()
        if not len(known):
            return np.zeros(len(keys), bool)
        at = np.searchsorted(known, keys).clip(max=len(known) - 1)
        return np.asarray(known[at] == keys)

    def find(self, keys: Numbers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The number of the shard and the row in it for each key; all of them must be there."""
        known, order = self._in_order()
        ends = np.cumsum([len(each) for each in self._keys])
        place = order[np.searchsorted(known, keys)]
        file = np.searchsorted(ends, place, side="right")
        return file, place - np.concatenate([[0], ends])[file]

    def _in_order(self) -> tuple[Numbers, NDArray[np.int64]]:
        if self._sorted is None:
            every = np.concatenate([*self._keys, np.empty(0, np.uint64)])
            order = every.argsort(kind="stable")
            self._sorted = every[order], order
        return self._sorted
