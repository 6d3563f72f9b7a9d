"""What is in a Dataset and in its Inputs, as numpy arrays: rows of a split, labels, pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekd.core.artifacts import Dataset, Inputs
from edgekd.core.errors import DataError, UnknownName
from edgekd.core.frames import Frame
from edgekd.data import frames
from edgekd.data.sources import SPLITS, UNLABELLED

Pixels = NDArray[np.uint8]
Levels = NDArray[np.uint8] | NDArray[np.uint16]


def rows(dataset: Dataset, split: str) -> NDArray[np.int64]:
    """Indices into `dataset.images` of one split, int64 [k]. Raises UnknownName."""
    if split not in (*SPLITS, UNLABELLED):
        raise UnknownName("split", split, SPLITS, f"one of {', '.join(SPLITS)}")
    return np.array(
        [index for index, row in enumerate(dataset.images) if row["split"] == split], np.int64
    )


def taught(dataset: Dataset) -> NDArray[np.int64]:
    """Indices of the images that distillation trains on, int64 [k]: train, then unlabelled ones."""
    return np.concatenate([rows(dataset, "train"), rows(dataset, UNLABELLED)])


def labels(dataset: Dataset, split: str | None = None) -> NDArray[np.int64]:
    """Class indices, int64 [k], in the order of `rows(dataset, split)`; None means every image.

    Where an image may have several labels: 1 for each label that it has, else 0, int64
    [k, classes]. An image without a known label has -1 everywhere.
    """
    known = [row["label"] for row in dataset.images]
    classes = range(len(dataset.classes))
    every: NDArray[np.int64] = np.array(
        [-1 if label is None else label for label in known]
        if dataset.labels == "one"
        else [[-1 if label is None else int(k in label) for k in classes] for label in known],
        np.int64,
    )
    return every if split is None else every[rows(dataset, split)]


def training_labels(dataset: Dataset) -> NDArray[np.int64] | NDArray[np.float32]:
    """The labels that training takes, in the order of `dataset.images`.

    They are those of `labels`, int64, unless some are uncertain: then float32 [n, classes], with a
    probability for an uncertain label, or NaN where the loss leaves it out.
    """
    known = labels(dataset)
    unsure = {
        index: row["uncertain"] for index, row in enumerate(dataset.images) if row.get("uncertain")
    }
    if not unsure:
        return known
    soft = known.astype(np.float32)
    for index, targets in unsure.items():
        for number, target in targets.items():
            soft[index, int(number)] = np.nan if target is None else target
    return soft


def pixels(dataset: Dataset) -> Levels:
    """All images as a read-only view, [n, channels, px, px] (NCHW), without a copy.

    They are uint8, or uint16 (0 to 65535) where an image has more than 8 bits.
    """
    return np.frombuffer(dataset.pixels, np.dtype("u1" if dataset.bits == 8 else "<u2")).reshape(
        -1, dataset.channels, dataset.px, dataset.px
    )


def identities(dataset: Dataset) -> NDArray[np.uint64]:
    """What stands for each image when its views are drawn, uint64 [n]: the start of its sha256.

    Two of a million images share one with a probability of 3 in 100 million; their views are then
    drawn alike, as those of copies are.
    """
    return np.array([int(row["sha256"][:16], 16) for row in dataset.images], np.uint64)


def student_channels(dataset: Dataset, wanted: str) -> int:
    """Channels of the student's input, 1 or 3, for the setting `data.channels`.

    Raises DataError for "1" when images are coloured.
    """
    if wanted == "auto":
        return dataset.channels
    if wanted == "1" and dataset.channels != 1:
        raise DataError(
            f"data.channels = 1, and {dataset.name} holds coloured images",
            "make all of them grey, or leave data.channels at 3",
        )
    return int(wanted)


def input_images(inputs: Inputs, part: str, channels: int) -> Pixels:
    """One part of the inputs as the file takes it, uint8 [n, height, width, channels] (NHWC), as a
    read-only view without a copy. Grey is repeated where needed.

    `part`: "val", "test", "calibration" or "golden".
    """
    images = np.frombuffer(getattr(inputs, part), np.uint8).reshape(
        -1, *(inputs.frame or (inputs.px, inputs.px)), inputs.channels
    )
    if inputs.channels == channels:
        return images
    return np.broadcast_to(images, (*images.shape[:3], channels))


def network_images(inputs: Inputs, part: str, channels: int) -> Pixels:
    """One part of the inputs as the network itself sees it, uint8 [n, px, px, channels].

    As `input_images` where the app resizes. Where the file does, its frames reduced.
    """
    shown = input_images(inputs, part, channels)
    frame = Frame.of(inputs.frame, inputs.px)
    return shown if frame is None else frames.reduced(shown, frame)
