"""Measures how the weight decay of a frozen teacher's head changes its answers.

    python -m tools.measure_head --data DIR --teacher NAME@FILE --set data.limit=50 --judged 0

Prints a Markdown table: top-1 and cross-entropy on the test split for each decay, and how often the
head's own cross-validation chooses that decay. The seeds are those of the folds.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.core.artifacts import Dataset
from edgekd.core.store import Store
from edgekd.data import datasets
from edgekd.networks import builders, timm_networks
from edgekd.networks.inference import logits_and_features
from edgekd.pipeline.jobs import Job, load, teacher_px
from edgekd.pipeline.runner import run
from edgekd.settings.model_specs import spec
from edgekd.training import linear_head, views
from edgekd.training.view_features import Features
from tools.measure_modes import opened


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A pretrained network without a head that fits the data, and its input."""

    net: torch.nn.Module
    px: int
    mean: list[float]
    std: list[float]

    def features(self, images: Dataset, rows: Tensor, drawn: views.Views | None = None) -> Tensor:
        """Pooled features [n, d] of images: of the plain images, or of one view of each."""
        render = views.Renderer(datasets.pixels(images), self.px, self.mean, self.std)
        parts = (
            (render.plain(part) if drawn is None else render.views(part, drawn))
            for part in rows.split(32)
        )
        return torch.cat([logits_and_features(self.net, part, torch.float32)[1] for part in parts])


def backbone(job: Job, teacher: str, classes: int) -> Backbone:
    """The teacher NAME@FILE as it is before its head is fitted."""
    name, _, weights = teacher.partition("@")
    model = spec(name)
    config = dataclasses.replace(job.recipe.teacher, weights=weights)
    px = teacher_px(model, job.recipe.data.input_px, config)
    size = timm_networks.size_option(model.arch, px)
    net, _ = timm_networks.pretrained(model, weights, classes, {**model.options, **size})
    mean, std = builders.normalisation(model, net)
    return Backbone(net.eval(), px, mean, std)


def training_features(job: Job, dataset: Dataset, network: Backbone) -> Tensor:
    """Features [views, n, d] of the training images: plain, then `teacher.head_views` views."""
    train = torch.from_numpy(datasets.rows(dataset, "train"))
    images = datasets.identities(dataset)
    known = [network.features(dataset, train)]
    for number in range(job.recipe.teacher.head_views):
        drawn = views.draw(job.recipe.views, 0, number, images, train)
        known.append(network.features(dataset, train, drawn))
    return torch.stack(known)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A frozen network's features and the labels of its images.

    `known`: of the training images, float32 [views, n, d]; see `training_features`. `judged`: of
    the plain test images, [m, d]. `labels`, `truth`: of both, int64. `teacher`: in words.
    """

    known: Tensor
    labels: Tensor
    judged: Tensor
    truth: Tensor
    classes: int
    teacher: str


def prepared(arguments: argparse.Namespace) -> Prepared:
    """What the arguments ask for."""
    wanted, store = arguments.set, Store(arguments.out, None)
    job = opened(arguments)
    dataset: Dataset = load(run(job, store, "data"), "data")
    arguments.set = [*wanted, f"data.limit={arguments.judged}"]
    judges: Dataset = load(run(opened(arguments), store, "data"), "data")
    classes = len(dataset.classes)
    network = backbone(job, arguments.teacher, classes)
    return Prepared(
        training_features(job, dataset, network),
        torch.from_numpy(datasets.labels(dataset, "train")),
        network.features(judges, torch.from_numpy(datasets.rows(judges, "test"))),
        torch.from_numpy(datasets.labels(judges, "test")),
        classes,
        f"{arguments.teacher.partition('@')[0]} at {network.px} px on {dataset.name}",
    )


def network_parser(description: str | None) -> argparse.ArgumentParser:
    """The command line of a tool that reads a frozen teacher's features.

    `description`: its module's docstring, whose first line is shown.
    """
    made = argparse.ArgumentParser(description=description.splitlines()[0] if description else None)
    made.add_argument("--data", default="fashion-mnist")
    made.add_argument("--teacher", required=True, help="NAME@FILE")
    made.add_argument("--set", action="append", default=[])
    made.add_argument("--out", type=Path, default=Path("builds/head"))
    made.set_defaults(student="mobilenetv2_050", profile="pi4")
    return made


def parser(description: str | None) -> argparse.ArgumentParser:
    """The command line of a tool that judges heads on test images, too."""
    made = network_parser(description)
    made.add_argument("--judged", type=int, default=200, help="test images per class; 0: all")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return made


def main() -> None:
    arguments = parser(__doc__).parse_args()
    asked = prepared(arguments)
    classes, labels, truth = asked.classes, asked.labels, asked.truth
    print(f"{asked.teacher}, {len(labels)} training and {len(truth)} test images\n")
    print("| decay | top-1 | cross-entropy | chosen |\n|---|---|---|---|")
    every = Features.of(asked.known)
    chosen = [linear_head.fit(every, labels, classes, 0.0, seed).decay for seed in arguments.seeds]
    for decay in linear_head.DECAYS:
        head = linear_head.fit(every, labels, classes, decay, 0)
        said = F.linear(asked.judged, head.weight, head.bias)
        times = f"{chosen.count(decay)} of {len(chosen)} seeds" if decay in chosen else ""
        print(
            f"| {decay:g} | {100 * (said.argmax(1) == truth).float().mean():.1f} | "
            f"{F.cross_entropy(said, truth):.3f} | {times} |"
        )


if __name__ == "__main__":
    main()
