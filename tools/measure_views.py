"""Measures which random changes of the views help a frozen teacher's head on unchanged images.

    python -m tools.measure_views --data DIR --teacher NAME@FILE --set data.limit=500

Teacher and student learn from changed images, and the deployed network sees unchanged ones. A
linear head is fitted on the images themselves and one view of each that has a single kind of
change, as large as the recipe allows it. It is judged on training images that it was not fitted on,
by cross-validation over at most 2,000 of them; no validation or test image is looked at. Prints a
Markdown table: the cross-entropy on these images, and how much lower it is than that of a head
fitted on the images alone, with a 95 % interval over the images. A change with a negative gain
shows images as the network will never see them: try a smaller value. The last row has all changes.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch

from edgekd.core.artifacts import Dataset
from edgekd.core.store import Store
from edgekd.data import datasets
from edgekd.pipeline.jobs import load
from edgekd.pipeline.runner import run
from edgekd.settings.recipe import ViewsConfig
from edgekd.training import linear_head, views
from edgekd.training.view_features import Features
from tools.measure_head import backbone, network_parser
from tools.measure_modes import opened

ALL = "all of them"
# Two-sided 95 % point of the normal distribution; there are hundreds of images.
Z95 = 1.96


def changes(config: ViewsConfig) -> Iterator[tuple[str, ViewsConfig]]:
    """Each kind of change that the settings allow, as KEY=VALUE, with views of nothing else.

    Mixing two images is left out, since a mixed image has no single label. Every view is changed,
    also where the recipe's first view is the image itself.
    """
    config = dataclasses.replace(config, mixup=0.0, plain=False)
    none = views.unchanged(config)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != getattr(none, field.name):
            single = dataclasses.replace(none, **{field.name: value})
            yield f"views.{field.name}={value:g}", single
    yield ALL, config


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = network_parser(__doc__)
    made.set_defaults(out=Path("builds/views"))
    return made


def main() -> None:
    arguments = parser().parse_args()
    job = opened(arguments)
    dataset: Dataset = load(run(job, Store(arguments.out, None), "data"), "data")
    rows = torch.from_numpy(datasets.rows(dataset, "train"))
    labels = torch.from_numpy(datasets.labels(dataset, "train"))
    classes, images = len(dataset.classes), datasets.identities(dataset)
    network = backbone(job, arguments.teacher, classes)
    plain = network.features(dataset, rows)
    known = {"": Features.of(plain[None])}
    for name, config in changes(job.recipe.views):
        drawn = views.draw(config, job.recipe.seed, 0, images, rows)
        changed = network.features(dataset, rows, drawn)
        known[name] = Features.of(torch.stack([plain, changed]))
    found = linear_head.compare(known, labels, classes, 0.0, job.recipe.seed)
    print(
        f"{arguments.teacher.partition('@')[0]} at {network.px} px on {dataset.name}, "
        f"{len(rows)} training images\n"
    )
    print("| a view with | cross-entropy | gain |\n|---|---|---|")
    for name, validated in found.items():
        gain, error = validated.gain(found[""])
        said = f"{gain:+.3f} +- {Z95 * error:.3f}" if name else ""
        print(f"| {name or 'the images alone'} | {validated.loss:.3f} | {said} |")


if __name__ == "__main__":
    main()
