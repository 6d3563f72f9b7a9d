"""Reading the teachers' cached answers from memory-mapped files, one batch at a time.

A file holds the answers about some images: a numpy array (.npy) of records, one an image, with the
key of the answer and float16 fields. `CachedAnswers` finds each by the places in a `Knowledge`.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekd.core import pages
from edgekd.core.artifact_rows import AnswerColumn
from edgekd.core.artifacts import Blob, Json, Knowledge, Shards
from edgekd.core.context import Shards as Folder

# The field of a record that holds the key (see `answer_keys`).
KEY = "key"
# Images that are read at a time where all are needed.
PART = 1 << 14
# Files whose pages are kept at a time.
MOST_TOUCHED = 128

Records = NDArray[Any]  # a structured array [n]


def encoded(keys: NDArray[np.uint64], answers: Mapping[str, Tensor]) -> bytes:
    """The bytes of a file: `answers` by field, float16 [n, ...], with their keys, uint64 [n]."""
    fields = [(name, "<f2", tuple(value.shape[1:])) for name, value in answers.items()]
    records = np.empty(len(keys), [(KEY, "<u8"), *fields])
    records[KEY] = keys
    for name, value in answers.items():
        records[name] = value.numpy()
    buffer = io.BytesIO()
    np.save(buffer, records)
    return buffer.getvalue()


def decoded(data: Blob) -> Records:
    """The records in a file, without a copy."""
    head = io.BytesIO(bytes(data[:4096]))
    np.lib.format.read_magic(head)
    shape, _, dtype = np.lib.format.read_array_header_1_0(head)
    return np.frombuffer(data, dtype, shape[0], head.tell())


class CachedAnswers:
    """The answers in a Knowledge by name: "logits", "pooled", "grid", "cams" and "others".

    Their shapes for one image are those of `teacher_oracle.Oracle`; "others" is [m, k], logits of
    further teachers. `views`: how many views of each image there are answers about.
    """

    def __init__(self, knowledge: Knowledge) -> None:
        self.views, self.count = knowledge.views, len(knowledge.rows)
        self._columns, self._shards = knowledge.columns, knowledge.shards
        self._places = np.frombuffer(knowledge.places, "<u4").reshape(
            len(self._columns), self.views, self.count, 2
        )
        # Files that were read since their pages were last given back, and how many bytes of them.
        self._touched: dict[str, Records] = {}
        self._read = 0

    def __len__(self) -> int:
        """Images with answers."""
        return self.count

    def take(self, view: int, order: Tensor) -> dict[str, Tensor]:
        """Answers about a view of some images, float16 [b, ...].

        `view`: modulo the number of views. `order`: positions in `Knowledge.rows`, int64 [b].
        """
        found: dict[str, list[Tensor]] = defaultdict(list)
        for number, column in enumerate(self._columns):
            places = self._places[number, view % self.views, order.numpy()]
            records = self._records(column, places)
            for field, name in column["names"].items():
                value = torch.from_numpy(np.ascontiguousarray(records[field]))
                stacked = name == "others" and field != name
                found[name].append(value[:, None] if stacked else value)
        return {
            name: values[0] if len(values) == 1 else torch.cat(values, 1)
            for name, values in found.items()
        }

    def whole(self) -> dict[str, Tensor]:
        """All answers in memory, float16 [views, n, ...]."""
        every = [self.take(view, torch.arange(self.count)) for view in range(self.views)]
        return {name: torch.stack([view[name] for view in every]) for name in every[0]}

    def _records(self, column: AnswerColumn, places: NDArray[np.uint32]) -> Records:
        """The records of a column at some places [b, 2], copied."""
        files, rows = places[:, 0], places[:, 1]
        every: Records | None = None
        for file in np.unique(files):
            name = column["shards"][file]
            records = self._touched[name] = decoded(self._shards.open(name))
            if every is None:
                every = np.empty(len(places), records.dtype)
            here = files == file
            every[here] = records[rows[here]]
            self._read += int(here.sum()) * max(records.itemsize, pages.AROUND)
            self._give_back()
        assert every is not None
        return every

    def _give_back(self) -> None:
        if self._read >= pages.RESIDENT or len(self._touched) >= MOST_TOUCHED:
            for records in self._touched.values():
                pages.release(records)
            self._touched, self._read = {}, 0

    def all(self, view: int) -> Iterator[dict[str, Tensor]]:
        """Answers about a view of all images in order, a part at a time."""
        for order in torch.arange(self.count).split(PART):
            yield self.take(view, order)


def knowledge_of(
    rows: Sequence[int],
    classes: int,
    answers: Mapping[str, Tensor],
    facts: dict[str, Json],
    folder: Folder,
) -> Knowledge:
    """Knowledge of answers that are at hand, float16 [views, n, ...] by name.

    `rows`: the images that they are about. Writes one file a view to `folder`.
    """
    views = len(next(iter(answers.values())))
    places = np.zeros((1, views, len(rows), 2), "<u4")
    places[..., 1] = np.arange(len(rows))
    names = [f"{view:04d}.npy" for view in range(views)]
    for view, name in enumerate(names):
        places[0, view, :, 0] = view
        told = {field: value[view] for field, value in answers.items()}
        if not folder.has(name):
            folder.write(name, encoded(np.arange(len(rows), dtype=np.uint64), told))
    shards = folder.opened(names)
    column: AnswerColumn = {
        "names": {name: name for name in answers},
        "shards": list(shards.digests),
    }
    return Knowledge(views, list(rows), classes, facts, [column], places.tobytes(), shards)


def merged(parts: Sequence[Shards]) -> Shards:
    """The shards of several folders as one part of an artifact."""
    of_name = {name: part for part in parts for name in part.digests}
    digests = {name: part.digests[name] for name, part in of_name.items()}
    return Shards(digests, lambda name: of_name[name].open(name))
