"""Measures what a frozen teacher's head gains from images without labels.

    python -m tools.measure_self_training --data DIR --teacher NAME@FILE --labelled 25 --judged 0

Draws `--labelled` images of each class from the training images, several times. The head is fitted
on them, and then trains itself on all other training images, whose labels it does not see. Prints a
Markdown table by the number of rounds: top-1, AUC and cross-entropy on the test images, the gain in
top-1 with its 95 % interval over the draws, and how often the teacher would keep the head
(`kept`). The last row is a head on all labels.

`data.limit` says how many training images there are in all, `--judged` how many test images.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekd.evaluation import metrics
from edgekd.training import linear_head
from edgekd.training.linear_head import Head
from edgekd.training.self_training import SelfTraining
from edgekd.training.view_features import Features
from tools.compare_table import interval
from tools.measure_head import parser as head_parser
from tools.measure_head import prepared

ROUNDS = (1, 3, 6, 12)


@dataclasses.dataclass(frozen=True)
class Judged:
    """One head on images that it never saw. `kept`: whether a teacher would keep it."""

    top1: float
    auc: float
    cross_entropy: float
    kept: bool = True


@dataclasses.dataclass(frozen=True)
class Images:
    """Features of plain images, float32 [n, d], and their labels, int64 [n]."""

    features: Tensor
    labels: Tensor

    def judge(self, head: Head, kept: bool = True) -> Judged:
        """The figures of a head on these images."""
        said = F.linear(self.features, head.weight, head.bias)
        found = metrics.quick(said.numpy(), self.labels.numpy())
        loss = float(F.cross_entropy(said, self.labels))
        return Judged(found["top1"], found["auc"], loss, kept)


def drawn(labels: Tensor, each: int, seed: int) -> Tensor:
    """Indices of `each` random images of each class, int64 [m]."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    parts = [order[labels[order] == k][:each] for k in labels.unique()]
    return torch.cat(parts).sort().values


def compare(
    known: Tensor, labels: Tensor, classes: int, each: int, seed: int, judges: Images
) -> dict[int, Judged]:
    """The figures by the number of rounds. `known`: features [views, n, d], plain images first."""
    chosen = drawn(labels, each, seed)
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[chosen] = False
    of, told = Features.of(known[:, chosen]), labels[chosen]
    head = linear_head.fit(of, told, classes, 0.0, seed)
    found = {0: judges.judge(head)}
    rest_of = Features.of(known[:, rest])
    untrained = SelfTraining(of, told, rest_of, "one", classes, rounds=0)
    before = untrained.held_out_before(head.decay, seed)
    for rounds in ROUNDS:
        training = dataclasses.replace(untrained, rounds=rounds)
        kept = not training.held_out(head.decay, seed).worse_than(before)
        found[rounds] = judges.judge(training.fit(head), kept)
    return found


def row(name: str, each: list[Judged], before: list[Judged] | None) -> str:
    """A line of the table. `before`: the heads on the labels alone, of the same draws."""
    top1 = ", ".join(f"{100 * one.top1:.1f}" for one in each)
    mean = [
        statistics.mean(getattr(one, field) for one in each)
        for field in ("top1", "auc", "cross_entropy")
    ]
    gain = kept = ""
    if before:
        gain = interval([one.top1 - other.top1 for one, other in zip(each, before, strict=True)])
        kept = f"{sum(one.kept for one in each)} of {len(each)}"
    figures = (f"{100 * mean[0]:.1f}", gain, f"{mean[1]:.3f}", f"{mean[2]:.3f}", kept, top1)
    return f"| {name} | {' | '.join(figures)} |"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = head_parser(__doc__)
    made.add_argument("--labelled", type=int, default=25, help="labelled images per class")
    made.set_defaults(out=Path("builds/self-training"))
    return made


def main() -> None:
    arguments = parser().parse_args()
    asked = prepared(arguments)
    labels, classes = asked.labels, asked.classes
    images = Images(asked.judged, asked.truth)
    found = [
        compare(asked.known, labels, classes, arguments.labelled, seed, images)
        for seed in arguments.seeds
    ]
    print(
        f"{asked.teacher}, {arguments.labelled} labelled images of each of {classes} classes, "
        f"{len(labels)} training and {len(asked.truth)} test images\n"
    )
    print("| rounds | top-1 | gain | AUC | cross-entropy | kept | each draw |")
    print("|---|---|---|---|---|---|---|")
    before = [each[0] for each in found]
    print(row("labels alone", before, None))
    for rounds in ROUNDS:
        print(row(str(rounds), [each[rounds] for each in found], before))
    whole = linear_head.fit(Features.of(asked.known), labels, classes, 0.0, 0)
    print(row("all labels", [images.judge(whole)], None))


if __name__ == "__main__":
    main()
