"""Training images divided among clients (federated distillation), and what each client receives.

A client's images are in a split of their own, "client NAME", which only the stages of the clients
read. Images that stay in "train" are shared.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.core.artifact_rows import ImageRow
from edgekd.core.artifacts import Dataset, Json
from edgekd.core.errors import DataError
from edgekd.data import datasets, tables
from edgekd.settings.recipe import FederatedConfig

# Prefix of a client's split; the client's name follows.
SPLIT = "client "
# In the CSV of `federated.parts`: the group of the images that are shared.
SHARED = "shared"
# Fewest images of a client. Li et al. 2022 (arXiv 2102.02079) also draw again below it.
FEWEST = 10
# Draws before giving up. One takes about a millisecond for 1,000 groups.
TRIES = 1000


def divide(dataset: Dataset, config: FederatedConfig, seed: int) -> Dataset:
    """The data set with its training images divided among clients.

    The CSV `config.parts` (columns image and group) decides, if it is set: each group is a client,
    and the group "shared" is what all of them see. Otherwise the images are drawn: `config.shared`
    of the groups (patients) are shared, and of each class the rest goes to clients in shares drawn
    from a symmetric Dirichlet distribution (Hsu et al. 2019, arXiv 1909.06335), whole groups only.

    Raises DataError when no image is shared, or a client has fewer than FEWEST images.
    """
    train = datasets.rows(dataset, "train")
    if config.parts:
        names, numbers = tables.groups(
            Path(config.parts), [dataset.images[row]["name"] for row in train]
        )
        owners = dict(zip(train.tolist(), (names[number] for number in numbers), strict=True))
    else:
        owners = _drawn(dataset, train, config, seed)
    _check(dataset.name, owners, config)
    return dataclasses.replace(
        dataset,
        images=[
            _in_split(row, f"{SPLIT}{owners[index]}")
            if owners.get(index, SHARED) != SHARED
            else row
            for index, row in enumerate(dataset.images)
        ],
    )


def _check(name: str, owners: Mapping[int, str], config: FederatedConfig) -> None:
    """Raise DataError when images or clients are too few. `owners`: {row: client or SHARED}."""
    counts = Counter(owners.values())
    shared = counts.pop(SHARED, 0)
    clients = 2 if config.parts else max(2, config.clients)
    if shared and len(counts) >= clients and min(counts.values()) >= FEWEST:
        return
    found = ", ".join(f"{client} {count}" for client, count in sorted(counts.items()))
    raise DataError(
        f"{name}: of {len(owners)} training images {shared} are shared, and clients have "
        f"{found or 'none'}; at least {clients} clients with {FEWEST} images each, and some shared "
        "images, are needed",
        f"name more images in federated.parts, with {SHARED!r} among its groups"
        if config.parts
        else "lower federated.clients, raise federated.alpha, or set federated.shared between 0 "
        "and 1",
    )


def _in_split(row: ImageRow, split: str) -> ImageRow:
    """The same image in another split."""
    return {**row, "split": split}


def _drawn(
    dataset: Dataset, train: NDArray[np.int64], config: FederatedConfig, seed: int
) -> dict[int, str]:
    """{row: its owner} at random; the last draw when none of TRIES gives every client enough."""
    rng = np.random.default_rng([seed, config.clients])
    # The rows of each group; an image without a group is one by itself.
    groups: dict[str, list[int]] = defaultdict(list)
    for row in train.tolist():
        image = dataset.images[row]
        name = image["name"] if image["group"] is None else f"group {image['group']}"
        groups[name].append(row)
    names = list(groups)
    order = rng.permutation(len(names))
    count = round(config.shared * len(names))
    owners = {row: SHARED for place in order[:count] for row in groups[names[place]]}
    # A group counts for the class of its first image.
    by_class: dict[str, list[str]] = defaultdict(list)
    for place in order[count:]:
        by_class[str(dataset.images[groups[names[place]][0]]["label"])].append(names[place])
    drawn: dict[int, str] = {}
    for _ in range(TRIES):
        drawn = {
            row: client
            for _, own in sorted(by_class.items())
            for name, client in zip(own, _clients_of(own, config, rng), strict=True)
            for row in groups[name]
        }
        sizes = Counter(drawn.values())
        if len(sizes) == config.clients and min(sizes.values()) >= FEWEST:
            break
    return owners | drawn


def _clients_of(
    names: Sequence[str], config: FederatedConfig, rng: np.random.Generator
) -> list[str]:
    """A client ("1", "2", ...) for each group of one class, in shares from a Dirichlet draw."""
    ends = np.cumsum(rng.dirichlet([config.alpha] * config.clients)) * len(names)
    owners = np.searchsorted(ends, np.arange(len(names)), "right")
    return [str(min(int(owner), config.clients - 1) + 1) for owner in owners]


def clients(dataset: Dataset) -> dict[str, NDArray[np.int64]]:
    """The rows of each client, int64 [k], by the name of its split."""
    found: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(dataset.images):
        if row["split"].startswith(SPLIT):
            found[row["split"]].append(index)
    return {name: np.array(rows) for name, rows in sorted(found.items())}


def part(dataset: Dataset, rows: NDArray[np.int64]) -> Dataset:
    """A data set of these images only, all of them in "train"."""
    return dataclasses.replace(
        dataset,
        images=[_in_split(dataset.images[row], "train") for row in rows],
        pixels=datasets.pixels(dataset)[rows].tobytes(),
    )


def shared(dataset: Dataset) -> Dataset:
    """The data set as clients receive it: without labels, and black where images are not shared.

    Rows keep their places, so that views are drawn as for the whole data set.
    """
    rows = datasets.rows(dataset, "train")
    every = datasets.pixels(dataset)
    # np.zeros takes no memory for pages that are never written.
    pixels = np.zeros(every.shape, every.dtype)
    pixels[rows] = every[rows]
    images: list[ImageRow] = []
    for row in dataset.images:
        nothing: Json = 0 if dataset.labels == "one" else []
        bare: ImageRow = {**row, "label": nothing}
        bare.pop("uncertain", None)
        images.append(bare)
    return dataclasses.replace(
        dataset, images=images, pixels=memoryview(pixels.reshape(-1).view(np.uint8))
    )
