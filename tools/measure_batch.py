"""Measures what the batch that `distil.batch = 0` chooses for a GPU does to the accuracy.

    python tools/measure_batch.py [--data DIR] [--batch 128] [--seeds 3] [--epochs 8]

For each seed a student learns from the labels alone, with steps of 32 images and with steps of the
size that the rule of `edgekd.training.batch_rule` gives for a GPU, or with `--batch`. The learning
rate and the average are scaled to it. It runs on any device, the CPU too, and prints a Markdown
table.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import torch

from edgekd.app import build
from edgekd.core.artifacts import Dataset
from edgekd.core.context import Hardware, MemoryCheckpoint, silent
from edgekd.core.store import Store
from edgekd.data import datasets
from edgekd.evaluation import metrics
from edgekd.networks import builders, compute, timm_networks
from edgekd.networks.inference import logits_of
from edgekd.pipeline.jobs import Job, load
from edgekd.pipeline.runner import run
from edgekd.settings import recipe
from edgekd.training import batch_rule, views
from edgekd.training.lesson import lesson
from edgekd.training.teacher_answers import TeacherAnswers

STUDENT, PX, RATE = "mobilenetv2_035", 32, 0.05


def trained(job: Job, dataset: Dataset, batch: int, epochs: int, seed: int) -> tuple[float, float]:
    """Top-1 and AUC on test, in per cent, of a student that was trained with steps of `batch`."""
    on = compute.chosen(Hardware("auto"))
    torch.manual_seed(seed)
    net, _ = timm_networks.pretrained(
        job.student, "none", len(dataset.classes), job.student.options
    )
    mean, std = builders.normalisation(job.student, net)
    render = views.Renderer(datasets.pixels(dataset), PX, mean, std, on.device)
    config = dataclasses.replace(job.recipe.distil, batch=batch, seed=seed)
    answers = TeacherAnswers.of(dataset, None, job.recipe.views, 0)
    taught = lesson(dataset, answers, config, [], render, compute=on)
    plan = batch_rule.scaled(taught.fit_plan(epochs, RATE), batch)
    taught.teach(net, plan, "distil", MemoryCheckpoint(), silent)
    rows = torch.from_numpy(datasets.rows(dataset, "test"))
    said = logits_of(on.place(net), (render.plain(part) for part in rows.split(64)))
    labels = datasets.labels(dataset, "test")
    return 100 * metrics.top1(said, labels), 100 * (metrics.auc(said, labels) or float("nan"))


def shown(values: list[float]) -> str:
    """Mean and standard deviation over seeds."""
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", action="append", help="a --data of edgekd build; may be repeated")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, help="images in a step, in place of the rule's")
    parser.add_argument("--epochs", type=int, default=8)
    asked = parser.parse_args()
    if compute.chosen(Hardware("auto")).is_host:
        torch.set_num_threads(1)
    print("| data | images | batch | steps | top-1 on test | AUC |\n|---|---|---|---|---|---|")
    for data in asked.data or ["phantom"]:
        values = {"data.source": data, "data.input_px": PX, "teacher.name": "none"}
        settings = recipe.load(None, (), {**values, "distil.student": STUDENT})
        job = build.job(settings, "pi4")
        with tempfile.TemporaryDirectory() as folder:
            done = run(job, Store(Path(folder)), "data")
            dataset: Dataset = load(done, "data")
            images = len(datasets.rows(dataset, "train"))
            for batch in (batch_rule.BASE, asked.batch or batch_rule.for_gpu(images, PX)):
                figures = [
                    trained(job, dataset, batch, asked.epochs, seed) for seed in range(asked.seeds)
                ]
                top1, auc = (shown(list(each)) for each in zip(*figures, strict=True))
                steps = images // batch * asked.epochs
                name = Path(data).name
                print(f"| {name} | {images:,} | {batch} | {steps} | {top1} | {auc} |", flush=True)


if __name__ == "__main__":
    main()
