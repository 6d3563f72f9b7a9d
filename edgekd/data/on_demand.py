"""The pixels of a data set: from the memory map that the data stage made, or decoded when needed.

With `data.cache = "none"` no pixels are stored. Worker processes then decode the images of each
batch from the source, by the rules that the data set was made by.
"""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import signal
import warnings
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgekd.core.artifacts import Dataset
from edgekd.core.errors import DataError
from edgekd.data import datasets, pixel_rules
from edgekd.data.bit_depth import widened
from edgekd.data.datasets import Levels
from edgekd.data.decoding import read_one
from edgekd.data.pixel_rules import PixelRules
from edgekd.data.sources import Item, Source


class PixelRows(Protocol):
    """Pixels [n, channels, px, px], uint8 or uint16, of which some rows are taken at a time.

    A numpy array is one, too.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


def pixels(dataset: Dataset, source: Source | None) -> PixelRows:
    """The pixels of a data set. `source`: where its images come from, for what is not stored."""
    if dataset.facts.get("cache") != "none":
        return datasets.pixels(dataset)
    if source is None:
        raise DataError(
            f"{dataset.name}: the pixels of this data set are not stored (data.cache = none)",
            "build it with --set data.cache=pixels",
        )
    return OnDemand(dataset, source)


class OnDemand:
    """Pixels that worker processes decode whenever rows of them are taken."""

    def __init__(self, dataset: Dataset, source: Source) -> None:
        self.shape = (len(dataset.images), dataset.channels, dataset.px, dataset.px)
        self.dtype = np.dtype(np.uint8 if dataset.bits == 8 else np.uint16)
        self._rows = [(str(row["name"]), row["sha256"]) for row in dataset.images]
        self._dataset, self._source = dataset, source

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice | NDArray[np.int64] | Sequence[int]) -> Levels:
        """Decoded images [b, channels, px, px].

        Raises DataError for an image that cannot be read, or that has changed since the data set
        was built.
        """
        wanted = np.arange(len(self._rows))[rows]
        if not len(wanted):
            return np.empty((0, *self.shape[1:]), self.dtype)
        parts = np.array_split(wanted, min(len(wanted), self._workers) or 1)
        try:
            found: list[Future[Levels]] = [
                self._pool.submit(_take, [self._rows[row] for row in part]) for part in parts
            ]
            return np.concatenate([each.result() for each in found])
        except BrokenProcessPool:
            raise DataError(
                "a process that decodes images has ended: the system may be short of memory",
                "run the same command again: what is finished is kept",
            ) from None

    @functools.cached_property
    def _workers(self) -> int:
        """The cores that this process may use, shared with other processes of its launcher."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return max(1, (cores or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))

    @functools.cached_property
    def _pool(self) -> ProcessPoolExecutor:
        """The worker processes. They are forked, so that a program needs no guard against being
        imported by them; they neither compute with torch nor use a GPU.
        """
        dataset = self._dataset
        decoder = _Decoder(
            self._source,
            {item.name: item for item in self._source.items()},
            pixel_rules.from_facts(dataset.facts, dataset.px, dataset.facts["fit"]),
            dataset.channels,
            self.dtype == np.uint16,
        )
        kinds = multiprocessing.get_all_start_methods()
        pool = ProcessPoolExecutor(
            self._workers,
            multiprocessing.get_context("fork" if "fork" in kinds else None),
            _start,
            (decoder,),
        )
        weakref.finalize(self, pool.shutdown, wait=False, cancel_futures=True)
        with warnings.catch_warnings():  # Python 3.12 warns of forks where there are threads
            warnings.simplefilter("ignore", DeprecationWarning)
            pool.submit(os.getpid).result()
        return pool


@dataclasses.dataclass(frozen=True)
class _Decoder:
    """What a worker needs. `wide`: whether pixels are uint16."""

    source: Source
    items: Mapping[str, Item]
    rules: PixelRules
    channels: int
    wide: bool

    def image(self, name: str, digest: str) -> Levels:
        """One image, [channels, px, px]."""
        item = self.items.get(name)
        image = None if item is None else read_one(self.source, item, self.rules)
        if isinstance(image, DataError):
            raise image
        if image is None or image.sha256 != digest or image.pixels is None:
            raise DataError(
                f"{self.source.name}: {name} has changed since the data set was built",
                "put the old file back, or run the build again so that the data stage starts over",
            )
        levels = widened(image.pixels) if self.wide else np.asarray(image.pixels, np.uint8)
        planes: Levels = np.empty((self.channels, *levels.shape[:2]), levels.dtype)
        planes[:] = levels.transpose(2, 0, 1) if levels.ndim == 3 else levels
        return planes


_DECODER: _Decoder | None = None  # of a worker process


def _start(decoder: _Decoder) -> None:
    global _DECODER
    _DECODER = decoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process stops its workers


def _take(rows: Sequence[tuple[str, str]]) -> Levels:
    """In a worker: decoded images, by name and sha256."""
    assert _DECODER is not None
    images = [_DECODER.image(name, digest) for name, digest in rows]
    found: Levels = np.empty((len(images), *images[0].shape), images[0].dtype)
    for place, image in enumerate(images):
        found[place] = image
    return found
