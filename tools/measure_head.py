"""What the decay of a frozen teacher's head does to its answers, and which decay its own cross-validation takes.

    python -m tools.measure_head --data DIR --teacher NAME@FILE --set data.limit=50 --judged 0

Prints a Markdown table: top-1 and cross-entropy on the test split for each decay that is tried. Seeds are of the folds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.core.artifacts import Dataset
from edgekd.core.store import Store
from edgekd.data import datasets
from edgekd.networks import builders
from edgekd.networks.inference import logits_and_features
from edgekd.pipeline.jobs import load, teacher_px
from edgekd.pipeline.runner import run
from edgekd.settings.model_specs import spec
from edgekd.training import linear_head, views
from tools.measure_modes import opened


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--teacher", required=True, help="NAME@FILE")
    parser.add_argument("--judged", type=int, default=200, help="test images a class; 0: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path, default=Path("builds/head"))
    arguments = parser.parse_args()
    arguments.student, arguments.profile = "mobilenetv2_050", "pi4"
    wanted, store = arguments.set, Store(arguments.out, None)
    job = opened(arguments)
    dataset: Dataset = load(run(job, store, "data"), "data")
    arguments.set = [*wanted, f"data.limit={arguments.judged}"]
    judges: Dataset = load(run(opened(arguments), store, "data"), "data")
    name, _, weights = arguments.teacher.partition("@")
    px = job.recipe.teacher.px or teacher_px(spec(name), job.recipe.data.input_px, weights)
    options = {
        **spec(name).options,
        **({"img_size": px} if builders.accepts_size(spec(name).arch) else {}),
    }
    net, _ = builders.pretrained(spec(name), weights, len(dataset.classes), options)
    mean, std = builders.normalisation(spec(name), net)
    train, test = (
        torch.from_numpy(datasets.rows(dataset, "train")),
        torch.from_numpy(datasets.rows(judges, "test")),
    )
    labels, truth = (
        torch.from_numpy(datasets.labels(dataset)),
        torch.from_numpy(datasets.labels(judges, "test")),
    )

    def features(images: Dataset, rows: Tensor, drawn: views.Views | None = None) -> Tensor:
        render = views.Renderer(datasets.pixels(images), px, mean, std)
        parts = (
            (render.plain(part) if drawn is None else render.views(part, drawn))
            for part in rows.split(32)
        )
        return torch.cat(
            [logits_and_features(net.eval(), part, torch.float32)[1] for part in parts]
        )

    known = [features(dataset, train)]
    for number in range(job.recipe.teacher.head_views):
        known.append(
            features(dataset, train, views.draw(job.recipe.views, 0, number, len(labels), train))
        )
    every, asked = torch.stack(known), features(judges, test)
    print(
        f"{name} at {px} px on {dataset.name}, {len(train)} training and {len(test)} test images\n"
    )
    print("| decay | top-1 | cross-entropy | chosen |\n|---|---|---|---|")
    chosen = [
        linear_head.fit(every, labels[train], len(dataset.classes), 0.0, seed).decay
        for seed in arguments.seeds
    ]
    for decay in linear_head.DECAYS:
        head = linear_head.fit(every, labels[train], len(dataset.classes), decay, 0)
        said = F.linear(asked, head.weight, head.bias)
        print(
            f"| {decay:g} | {100 * (said.argmax(1) == truth).float().mean():.1f} | {F.cross_entropy(said, truth):.3f} | "
            f"{f'{chosen.count(decay)} of {len(chosen)} seeds' if decay in chosen else ''} |"
        )


if __name__ == "__main__":
    main()
