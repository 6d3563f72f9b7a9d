"""Images, answers and figures that comparisons of methods share."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from edgekd.core.artifacts import Dataset, Inputs, LiteModel, Network
from edgekd.data import datasets
from edgekd.data.sources import Item, Source
from edgekd.evaluation import metrics
from edgekd.networks import builders
from edgekd.networks.inference import logits_of
from edgekd.tflite import runtime
from edgekd.training import views

LOGGED = 5  # classes in a row of the log, as a production service writes them


def write_images(folder: Path, source: Source, places: Iterable[tuple[Item, str]]) -> None:
    """Write images of a source to a new folder. `places`: paths below it, without a suffix.

    An existing folder stays as it is, because the modification times of files identify a source.
    The folder appears when all images are written.
    """
    if folder.is_dir():
        return
    draft = folder.with_suffix(".part")
    shutil.rmtree(draft, ignore_errors=True)
    for item, place in places:
        loaded = source.load(item)
        (draft / place).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(loaded, bytes):
            (draft / f"{place}{Path(item.name).suffix}").write_bytes(loaded)
        else:
            Image.fromarray(loaded).save(draft / f"{place}.png")
    draft.rename(folder)


def divide(folder: Path, source: Source, dataset: Dataset) -> None:
    """Write a data set to train/CLASS and test/CLASS.

    The test images of the new folder do not depend on data.limit.
    """
    split = {image["name"]: image["split"] for image in dataset.images}
    write_images(
        folder,
        source,
        (
            (item, f"{'test' if split[item.name] == 'test' else 'train'}/{item.label}/{number}")
            for number, item in enumerate(source.items())
            if item.name in split
        ),
    )


def leave_unlabelled(folder: Path, source: Source, dataset: Dataset, count: int) -> None:
    """Write `count` training images of the source that are not in the data set to a new folder.

    Raises SystemExit if the source has fewer of them.
    """
    taken = {image["name"] for image in dataset.images}
    left = [item for item in source.items() if item.split == "train" and item.name not in taken]
    if len(left) < count:
        sys.exit(
            f"--unlabelled {count}: {dataset.name} has {len(left)} training images beyond "
            f"data.limit; ask for at most {len(left)}"
        )
    chosen = sorted(np.random.default_rng(0).permutation(len(left))[:count])
    write_images(folder, source, ((left[place], str(place)) for place in chosen))


def answers(
    network: Network, dataset: Dataset, split: str, dtype: torch.dtype = torch.float32
) -> np.ndarray:
    """Logits float32 [n, k] of the plain images of a split."""
    render = views.Renderer(datasets.pixels(dataset), network.px, network.mean, network.std)
    chosen = torch.from_numpy(datasets.rows(dataset, split))
    return logits_of(
        builders.restore(network), (render.plain(part) for part in chosen.split(64)), dtype
    )


def figures(
    network: Network, dataset: Dataset, dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """Top-1, and AUC where every class has an image, on the test split."""
    return metrics.quick(answers(network, dataset, "test", dtype), datasets.labels(dataset, "test"))


def contents(dataset: Dataset, split: str) -> set[str]:
    """The sha256 of each image of a split."""
    return {image["sha256"] for image in dataset.images if image["split"] == split}


def int8_figures(model: LiteModel, inputs: Inputs, judges: Dataset) -> dict[str, float]:
    """The same of an int8 file. `inputs`: of the data set `judges`."""
    runner = runtime.LiteRunner(model.tflite)
    images = datasets.input_images(inputs, "test", runner.input.shape[-1])
    answers_ = runtime.tensor_range(runner.output).dequantize(runner.codes(images))
    return metrics.quick(answers_, datasets.labels(judges, "test"))


def write_log(path: Path, teacher: Network, dataset: Dataset, dtype: torch.dtype) -> None:
    """Write the teacher's top answers to the plain training images, as a service would log them."""
    said = metrics.probabilities(answers(teacher, dataset, "train", dtype))
    k = min(LOGGED, len(dataset.classes))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        columns = (f"{what}_{place}" for place in range(1, k + 1) for what in ("class", "p"))
        table.writerow(["image", "sha256", *columns])
        for row, p in zip(datasets.rows(dataset, "train"), said, strict=True):
            image = dataset.images[int(row)]
            best = [
                part
                for place in np.argsort(-p)[:k]
                for part in (dataset.classes[place], f"{p[place]:.6f}")
            ]
            table.writerow([image["name"], image["sha256"], *best])
