"""Training images divided among clients, and what each of them is handed. The images that are left in "train" are shared.

A client's images are in a split of its own, "client 1" and on, which no stage but the clients' asks for.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.core.artifacts import Dataset, Json
from edgekd.core.errors import DataError
from edgekd.data import datasets, tables
from edgekd.settings.recipe import FederatedConfig

SPLIT = "client "  # followed by the client's name
SHARED = "shared"  # the group of a CSV whose images are the shared ones
FEWEST = 10  # images a client: Li et al. 2022 (arXiv 2102.02079) draw again below it
TRIES = 1000


def divide(dataset: Dataset, config: FederatedConfig, seed: int) -> Dataset:
    """The data set with its training images divided: by a CSV (image,group), or at random with skewed classes.

    At random: `config.shared` of the groups (patients) are shared; of each class, the rest is given to clients in shares
    drawn from a symmetric Dirichlet distribution (Hsu et al. 2019, arXiv 1909.06335), whole groups only. Raises DataError
    when a client would have fewer than FEWEST images, or none would be shared.
    """
    train = datasets.rows(dataset, "train")
    if config.parts:
        names, numbers = tables.groups(Path(config.parts), [dataset.images[row] for row in train])
        owners = dict(zip(train.tolist(), (names[number] for number in numbers), strict=True))
    else:
        owners = _drawn(dataset, train, config, seed)
    counts = Counter(owners.values())
    shared = counts.pop(SHARED, 0)
    few = {name: count for name, count in counts.items() if count < FEWEST}
    if not shared or len(counts) < max(2, 0 if config.parts else config.clients) or few:
        found = (
            ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
            or "no client has any"
        )
        raise DataError(
            f"{dataset.name}: {len(train)} training images, {shared} shared; {found}: at least two clients with "
            f"{FEWEST} each, and some shared, are needed",
            f"name more images in federated.parts, {SHARED!r} among its groups"
            if config.parts
            else "lower federated.clients, raise federated.alpha, or set federated.shared between 0 and 1",
        )
    images = [
        {**row, "split": f"{SPLIT}{owners[index]}"} if owners.get(index, SHARED) != SHARED else row
        for index, row in enumerate(dataset.images)
    ]
    return dataclasses.replace(dataset, images=images)


def _drawn(
    dataset: Dataset, train: NDArray[np.int64], config: FederatedConfig, seed: int
) -> dict[int, str]:
    """{row: its owner}; with too few images for a client after TRIES draws, the last draw."""
    rng = np.random.default_rng([seed, config.clients])
    units: dict[str, list[int]] = defaultdict(list)
    for row in train.tolist():
        image = dataset.images[row]
        units[f"group {image['group']}" if image["group"] is not None else image["name"]].append(
            row
        )
    names = list(units)
    order = rng.permutation(len(names))
    count = round(config.shared * len(names))
    owners = {row: SHARED for place in order[:count] for row in units[names[place]]}
    by_class: dict[str, list[str]] = defaultdict(list)
    for place in order[count:]:  # a group counts for its first image's class
        by_class[str(dataset.images[units[names[place]][0]]["label"])].append(names[place])
    drawn: dict[int, str] = {}
    for _ in range(TRIES):
        drawn = {}
        for _, own in sorted(by_class.items()):
            ends = np.cumsum(rng.dirichlet([config.alpha] * config.clients)) * len(own)
            for place, name in enumerate(own):
                owner = min(int(np.searchsorted(ends, place, "right")), config.clients - 1)
                drawn |= dict.fromkeys(units[name], str(owner + 1))
        sizes = Counter(drawn.values())
        if len(sizes) == config.clients and min(sizes.values()) >= FEWEST:
            break
    return owners | drawn


def clients(dataset: Dataset) -> dict[str, NDArray[np.int64]]:
    """Each client's rows, by its name."""
    found: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(dataset.images):
        if row["split"].startswith(SPLIT):
            found[row["split"]].append(index)
    return {name: np.array(rows) for name, rows in sorted(found.items())}


def part(dataset: Dataset, rows: NDArray[np.int64]) -> Dataset:
    """A data set of these images alone, all in "train"."""
    return dataclasses.replace(
        dataset,
        images=[{**dataset.images[row], "split": "train"} for row in rows],
        pixels=datasets.pixels(dataset)[rows].tobytes(),
    )


def shared(dataset: Dataset) -> Dataset:
    """The shared images at their places, black elsewhere, without any label."""
    rows = datasets.rows(dataset, "train")
    every = datasets.pixels(dataset)
    pixels = np.zeros(every.shape, np.uint8)  # pages that nobody writes take no memory
    pixels[rows] = every[rows]
    nothing: Json = 0 if dataset.labels == "one" else []
    return dataclasses.replace(
        dataset,
        images=[{**row, "label": nothing} for row in dataset.images],
        pixels=memoryview(pixels.reshape(-1)),
    )
