"""What a data set is without its labels: which images train, and which ones validate."""

from __future__ import annotations

from edgekd.core.artifacts import Dataset, Json, canonical_json, sha256
from edgekd.data.sources import UNLABELLED

TRAINING, VALIDATION = ("train", UNLABELLED), ("val",)


def rows(dataset: Dataset, splits: tuple[str, ...]) -> list[int]:
    """Indices into `dataset.images` of some splits, in the order of the images' hashes.

    The order does not depend on names, labels, or which of the splits an image is in.
    """
    found = [index for index, row in enumerate(dataset.images) if row["split"] in splits]
    return sorted(found, key=lambda index: dataset.images[index]["sha256"])


def digest(dataset: Dataset) -> str:
    """Hex sha256 over the images to train on and those of val, as the data set holds their pixels.

    Labels, classes, test images and the order of images do not count.
    """

    def images(splits: tuple[str, ...]) -> list[str]:
        return [dataset.images[index]["sha256"] for index in rows(dataset, splits)]

    shown: Json = {
        "px": dataset.px,
        "channels": dataset.channels,
        "fit": dataset.facts.get("fit"),
        "depth": dataset.facts.get("depth"),
        "train": images(TRAINING),
        "val": images(VALIDATION),
    }
    return sha256(canonical_json(shown))
