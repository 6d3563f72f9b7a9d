"""What a source of images is: the one seam between where images come from and what is made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgekd.core.artifacts import Json

SPLITS = ("train", "val", "test")
UNLABELLED = "unlabelled"  # in place of a split: what only the teacher says something of
NONE = "no label"  # how an image is told that has none of several possible labels


def together(findings: tuple[str, ...]) -> str:
    """The labels of an image in one text."""
    return " + ".join(findings) or NONE


@dataclasses.dataclass(frozen=True)
class Item:
    """One labelled image that has not been read yet.

    `name` is unique in its source and relative ("train/cat/1.jpg"). `split` is None where the source does not say; then
    the data stage splits. `group` ties images that must stay in one split (a patient); None means the image alone.
    `findings`: the labels of an image that may have none or several; `label` then says them in one text.
    """

    name: str
    label: str
    split: str | None = None
    group: str | None = None
    findings: tuple[str, ...] | None = None

    @property
    def counted(self) -> tuple[str, ...]:
        """What this image counts for when splits are drawn evenly: its class, or each of its labels, or having none."""
        return (self.label,) if self.findings is None else self.findings or (NONE,)


class Source(Protocol):
    """Where labelled images come from: a folder, a package, a generator.

    `facts` holds at least "licence", "source" and "synthetic" (bool); it may hold "ignored" ({reason: count}) and
    "warnings" (list of sentences), which go into the dataset's facts. `labels`: every label there is, in order, where an
    image may have several (each item then has `findings`); None where each image is of one class.
    """

    name: str
    facts: dict[str, Json]

    @property
    def labels(self) -> Sequence[str] | None: ...

    def items(self) -> list[Item]:
        """Every image, in a stable order. Raises DataError when the source is not arranged as it must be."""
        ...

    def load(self, item: Item) -> bytes | NDArray[np.uint8]:
        """An image file's bytes, or decoded pixels (uint8 HxW or HxWx3) where there is no file. Called from threads."""
        ...

    def native_px(self) -> int:
        """The longest side in pixels of any image, so that a cache is never larger than what it holds; 0 if unknown."""
        ...

    def fingerprint(self) -> str:
        """A cheap hash that changes when the images may have changed: it belongs in the data stage's key."""
        ...
