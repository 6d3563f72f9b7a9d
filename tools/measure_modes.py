"""What single modes of distillation promise, each measured: the cache's speed and size, fairness, a corrupted teacher.

    python -m tools.measure_modes cache --data DIR --teacher NAME@FILE          images a second, cached against live; bytes
    python -m tools.measure_modes fair --teacher NAME@FILE                      the gap that a planted attribute leaves
    python -m tools.measure_modes corrupted --teacher NAME@FILE --others NAME@FILE    one teacher of three answers at random

`fair` and `corrupted` use Debian's Fashion-MNIST, and keep what is finished below --out: they go on where they were
stopped. Each prints a Markdown table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgekd.app import build
from edgekd.app.console import Console
from edgekd.app.progress import stages_to, steps_to
from edgekd.core.artifacts import Dataset, Knowledge, Network, sha256
from edgekd.core.context import Context
from edgekd.core.store import Store
from edgekd.data import datasets
from edgekd.data.providers import FashionMnistSource
from edgekd.data.sources import Item
from edgekd.networks import builders
from edgekd.pipeline.jobs import Job, load
from edgekd.pipeline.runner import run
from edgekd.pipeline.stage_settings import DistilSettings
from edgekd.pipeline.stages import distil
from edgekd.settings import recipe
from edgekd.training import teacher_blend, views
from edgekd.training.batches import arrays
from edgekd.training.fit import Step
from edgekd.training.lesson import Lesson, lesson
from edgekd.training.losses import label_losses
from edgekd.training.oracle_settings import OracleSettings
from edgekd.training.teacher_answers import TeacherAnswers
from tools.compare_methods import figures, interval

ROUNDS = 4  # of the speed measurement: each kind of answers in turn
BATCHES = 6  # of 32 images, a round and kind, after one that is not timed


def opened(arguments: argparse.Namespace, *sets: str, **overrides: Any) -> Job:
    """The build of these settings; `--set` comes after what the measurement wants itself."""
    teacher, _, weights = arguments.teacher.partition("@")
    named = {
        "data.source": arguments.data,
        "teacher.name": teacher,
        "teacher.weights": weights,
        "teacher.mode": "frozen",
        "distil.student": arguments.student,
    }
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    return build.job(
        recipe.load(None, (*sets, *arguments.set), named | settings), arguments.profile
    )


# --- the cache -------------------------------------------------------------------------------------------------------


def cache(arguments: argparse.Namespace) -> None:
    """The same training, fed from the cache and by the teacher itself, in turn; and what the cache weighs."""
    job = opened(arguments, "data.input_px=96", "data.limit=128", "views.per_image=6")
    with Console() as console:
        done = run(
            job, Store(arguments.out, None), "knowledge", steps_to(console), stages_to(console)
        )
    dataset, teacher, known = load(done, "data"), load(done, "teacher"), load(done, "knowledge")
    config = dataclasses.replace(
        job.recipe.distil, pooled=0.0
    )  # plain KD: the projector costs alike with either
    kinds = {
        "cached": _lesson(job, dataset, config, known, None, ""),
        "live, bfloat16": _lesson(job, dataset, config, None, teacher, "bfloat16"),
        "live, float32": _lesson(job, dataset, config, None, teacher, "float32"),
    }
    trained = {name: _trainer(job, dataset, made) for name, made in kinds.items()}
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, step in trained.items():
            step()
            start = time.process_time()
            rates[name].append(sum(step() for _ in range(BATCHES)) / (time.process_time() - start))
    print(
        f"\n{arguments.student} at {job.recipe.data.input_px} px on {dataset.name}, batches of {config.batch}, teacher "
        f"{arguments.teacher.partition('@')[0]} at {teacher.px} px; images a CPU second, {ROUNDS} rounds in turn\n"
    )
    print(
        "| teacher's answers | images a second | lowest, highest | cached is faster by |\n|---|---|---|---|"
    )
    for name, each in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["cached"], each, strict=True))
        print(
            f"| {name} | {statistics.median(each):.0f} | {min(each):.0f}, {max(each):.0f} | {ratio:.2f} |"
        )
    train = [image for image in dataset.images if image["split"] == "train"]
    files = sum(
        len(loaded)
        if isinstance(loaded := job.source.load(Item(image["name"], "", "train")), bytes)
        else loaded.nbytes
        for image in train
    )
    features, whole = (
        len(known.pooled),
        sum(len(getattr(known, part)) for part in ("logits", "pooled", "grid", "cams")),
    )
    print(
        f"\n{len(train)} training images of {files / len(train) / 1024:.1f} KiB each; {known.views} views: logits "
        f"{(whole - features) / files:.2%} of the images' size, pooled features {features / files:.1%} "
        f"({features / len(train) / 1024:.1f} KiB an image)"
    )


def _lesson(
    job: Job,
    dataset: Dataset,
    config: Any,
    known: Knowledge | None,
    teacher: Network | None,
    precision: str,
) -> Lesson:
    student = job.student
    net = builders.create(student.arch, {**student.options, "num_classes": len(dataset.classes)})
    mean, std = builders.normalisation(student, net)
    asking = None
    if teacher is not None and job.teacher is not None:
        asking = OracleSettings(precision, job.teacher)
        config = dataclasses.replace(config, answers="live")
    answers = TeacherAnswers.of(dataset, known, job.recipe.views, 0, teacher=teacher, asking=asking)
    return lesson(
        dataset,
        answers,
        config,
        builders.taps(student, net),
        views.Renderer(datasets.pixels(dataset), job.recipe.data.input_px, mean, std),
    )


def _trainer(job: Job, dataset: Dataset, taught: Lesson) -> Callable[[], int]:
    """A function that takes one training step, of batch after batch, and gives the number of images."""
    torch.manual_seed(0)
    net = builders.create(
        job.student.arch, {**job.student.options, "num_classes": len(dataset.classes)}
    )
    made = taught.distiller(net).train()
    optimiser = torch.optim.SGD(made.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    batches = (batch for epoch in range(10**6) for batch in taught.feed.epoch(epoch))

    def step() -> int:
        batch = next(batches)
        optimiser.zero_grad(set_to_none=True)
        made.loss(batch, Step(0, 1, 0)).backward()
        optimiser.step()
        return len(batch.images)

    return step


# --- fairness --------------------------------------------------------------------------------------------------------

AGREES, CONFLICTS = "agrees", "conflicts"


class Planted:
    """Two classes of Fashion-MNIST, tinted warm or cold. In training the tint agrees with the class but for a few images.

    In the test split it agrees in half of them. `cut`: the two classes. `conflicts`: share of training images whose tint
    does not agree. `groups`: whether an image's tint agrees, by the image's name.
    """

    name = "planted"
    labels = None
    TINTS = ((1.0, 0.7, 0.4), (0.4, 0.7, 1.0))  # red, green and blue of full white

    def __init__(self, train: int, test: int, cut: Sequence[str], conflicts: float) -> None:
        self.source, self.cut = FashionMnistSource(), tuple(cut)
        self.facts = self.source.facts
        self.groups: dict[str, str] = {}
        self._items: list[Item] = []
        for split, count, share in (("train", train, conflicts), ("test", test, 0.5)):
            for label in self.cut:
                found = [
                    item
                    for item in self.source.items()
                    if (item.label, item.split) == (label, split)
                ][:count]
                for number, item in enumerate(found):
                    against = int((number + 1) * share) > int(number * share)  # evenly spread
                    self.groups[item.name] = CONFLICTS if against else AGREES
                    self._items.append(item)

    def items(self) -> list[Item]:
        return list(self._items)

    def load(self, item: Item) -> NDArray[np.uint8]:
        tint = self.TINTS[self.cut.index(item.label) ^ (self.groups[item.name] == CONFLICTS)]
        grey = self.source.load(item).astype(np.float32)
        # Clothes are light on black: some light on all pixels carries the tint where the clothes are dark, too.
        return ((64 + grey * 0.75)[:, :, None] * np.asarray(tint)).round().astype(np.uint8)

    def native_px(self) -> int:
        return self.source.native_px()

    def fingerprint(self) -> str:
        return sha256(json.dumps([self.source.fingerprint(), self.groups, self.TINTS]).encode())


def fair(arguments: argparse.Namespace) -> None:
    """Plain KD and fair distillation at several weights, with and without drawing groups evenly, over paired seeds."""
    source = Planted(arguments.images, 500, arguments.cut, arguments.conflicts)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "groups.csv"
    file.write_text(
        "image,group\n" + "".join(f"{name},{group}\n" for name, group in source.groups.items())
    )
    sets = (
        "data.input_px=64",
        "distil.epochs=16",
        "views.per_image=4",
        "distil.pooled=0",
        "distil.batch=64",
        f'distil.groups="{file}"',
    )
    evenly = "distil.balance=group"
    kinds: dict[str, tuple[str, ...]] = {
        "labels only": (),
        "plain KD": (),
        "KD, groups drawn evenly": (evenly,),
    }
    for weight in arguments.weights:
        name, loss = f"KD + fair, weight {weight:g}", f"distil.losses.fair={weight}"
        kinds |= {name: (loss,), f"{name}, groups drawn evenly": (evenly, loss)}
    found: dict[str, list[dict[str, float]]] = {}
    with Console() as console:
        store = Store(arguments.out, None)
        for seed in arguments.seeds:
            for name, more in kinds.items():
                overrides = (
                    {"teacher__name": "none", "teacher__weights": ""}
                    if name == "labels only"
                    else {}
                )
                job = opened(
                    arguments,
                    *sets,
                    *(more if not overrides else ()),
                    distil__seed=seed,
                    **overrides,
                )
                job = dataclasses.replace(job, source=source)
                done = run(job, store, "distil", steps_to(console), stages_to(console))
                told = load(done, "distil").facts["groups"]["test"]
                each = {group: row["top1"] for group, row in told["each"].items()}
                found.setdefault(name, []).append(
                    {
                        "gap": each[AGREES] - each[CONFLICTS],
                        "worst": min(each.values()),
                        "mean": statistics.mean(each.values()),
                    }
                )
                print(f"== {name}, seed {seed}: {found[name][-1]}", file=sys.stderr, flush=True)
    print(
        f"\n{arguments.student}, {' and '.join(arguments.cut)} of Fashion-MNIST, {arguments.images} training images a class, "
        f"tint against the class in {arguments.conflicts:.0%}; 1,000 test images, half against; seeds {arguments.seeds}\n"
    )
    print(
        "| | top-1 | where the tint conflicts | gap | gap, each seed | against plain KD: gap; top-1 |"
    )
    print("|---|---|---|---|---|---|")
    base = found["plain KD"]
    for name, runs in found.items():
        mean = {part: 100 * statistics.mean(one[part] for one in runs) for part in runs[0]}
        against = {
            part: interval([one[part] - other[part] for one, other in zip(runs, base, strict=True)])
            for part in ("gap", "mean")
        }
        print(
            f"| {name} | {mean['mean']:.1f} | {mean['worst']:.1f} | {mean['gap']:.1f} | "
            f"{', '.join(f'{100 * one["gap"]:.1f}' for one in runs)} | "
            f"{'' if runs is base else f'{against["gap"]}; {against["mean"]}'} |"
        )


# --- a corrupted teacher ---------------------------------------------------------------------------------------------


def corrupted(arguments: argparse.Namespace) -> None:
    """Students of three teachers; of three one of which answers about other images; of the plain mean of those."""
    sets = (
        "data.input_px=64",
        "data.limit=60",
        "distil.epochs=16",
        "views.per_image=4",
        "distil.pooled=0",
    )
    with Console() as console:
        job = opened(arguments, *sets, teacher__others=tuple(arguments.others))
        done = run(
            job, Store(arguments.out, None), "knowledge", steps_to(console), stages_to(console)
        )
    dataset, known = load(done, "data"), load(done, "knowledge")
    said = arrays(known)
    every = torch.cat(
        [said["logits"][:, :, None], said["others"]], 2
    ).float()  # [views, n, teachers, k]
    broken = every.clone()
    broken[:, :, -1] = every[
        :, torch.randperm(every.shape[1], generator=torch.Generator().manual_seed(0)), -1
    ]
    mean = _mean(broken)
    kinds = {
        "the first alone": _with(known, every[:, :, :1]),
        "all, by confidence": _with(known, every),
        "the last one corrupted, by confidence": _with(known, broken),
        "the last one corrupted, plain mean": _with(known, mean),
    }
    file = arguments.out / "corrupted.json"
    found: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.exists() else {}
    for seed in arguments.seeds:
        for name, knowledge in kinds.items():
            config = dataclasses.replace(job.recipe.distil, seed=seed)
            if str(seed) not in found.setdefault(name, {}):
                student = distil.run(
                    dataset,
                    knowledge,
                    None,
                    settings=DistilSettings(
                        config, job.student, job.recipe.views, job.recipe.data.input_px
                    ),
                    context=Context(seed=job.recipe.seed),
                )
                found[name][str(seed)] = figures(student, dataset)["top1"]
                file.write_text(json.dumps(found))
                print(
                    f"== {name}, seed {seed}: {found[name][str(seed)]:.3f}",
                    file=sys.stderr,
                    flush=True,
                )
    targets = label_losses.soften(
        torch.from_numpy(datasets.labels(dataset))[torch.tensor(known.rows)],
        len(dataset.classes),
        0.0,
    )
    print(
        f"\n{arguments.student} on {dataset.name}, {len(known.rows)} training images, teachers "
        f"{', '.join(name.partition('@')[0] for name in (arguments.teacher, *arguments.others))}, seeds {arguments.seeds}\n"
    )
    print(
        "| taught by | top-1 | each seed | against all | mean weight of each teacher |\n|---|---|---|---|---|"
    )
    weights = {"all, by confidence": every, "the last one corrupted, by confidence": broken}
    for name in kinds:
        top1 = [found[name][str(seed)] for seed in arguments.seeds]
        paired = [
            a - found["all, by confidence"][str(seed)]
            for a, seed in zip(top1, arguments.seeds, strict=True)
        ]
        shares = (
            []
            if name not in weights
            else teacher_blend.confidence(weights[name][0], targets).mean(0).tolist()
        )
        print(
            f"| {name} | {100 * statistics.mean(top1):.1f} | {', '.join(f'{100 * one:.1f}' for one in top1)} | "
            f"{'' if name == 'all, by confidence' else interval(paired)} | {', '.join(f'{one:.2f}' for one in shares)} |"
        )


def _mean(every: torch.Tensor) -> torch.Tensor:
    """Logits of the teachers' mean probabilities, as one teacher's, [views, n, 1, k]."""
    return every.softmax(3).mean(2, keepdim=True).clamp(min=1e-7).log()


def _with(known: Knowledge, every: torch.Tensor) -> Knowledge:
    """The knowledge with these teachers' logits [views, n, teachers, k] in place of its own."""
    first, others = every[:, :, 0], every[:, :, 1:]
    return dataclasses.replace(
        known,
        teachers=every.shape[2],
        logits=first.half().numpy().tobytes(),
        others=others.half().contiguous().numpy().tobytes() if others.shape[2] else b"",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("cache", "fair", "corrupted"))
    parser.add_argument("--data", default="fashion-mnist", help="of cache and corrupted")
    parser.add_argument("--profile", default="pi4")
    parser.add_argument(
        "--teacher", required=True, help="NAME or NAME@FILE, frozen with a linear head"
    )
    parser.add_argument(
        "--others",
        nargs="+",
        default=[],
        help="of corrupted: further teachers; the last one is corrupted",
    )
    parser.add_argument("--student", default="mobilenetv2_050")
    parser.add_argument("--weights", type=float, nargs="+", default=[5.0, 25.0], help="of fair")
    parser.add_argument("--images", type=int, default=300, help="of fair: training images a class")
    parser.add_argument(
        "--cut", nargs=2, default=["dress", "coat"], help="of fair: two classes of Fashion-MNIST"
    )
    parser.add_argument(
        "--conflicts",
        type=float,
        default=0.1,
        help="of fair: share of training images whose tint misleads",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path, default=Path("builds/modes"))
    arguments = parser.parse_args()
    {"cache": cache, "fair": fair, "corrupted": corrupted}[arguments.what](arguments)


if __name__ == "__main__":
    main()
