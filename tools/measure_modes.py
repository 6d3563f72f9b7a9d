"""Measures single modes of distillation: the cache, fair distillation, and a corrupted teacher.

    python -m tools.measure_modes cache --data DIR --teacher NAME@FILE
    python -m tools.measure_modes fair --teacher NAME@FILE
    python -m tools.measure_modes corrupted --teacher NAME@FILE --others NAME@FILE NAME@FILE

    cache      images per second with cached and with live answers, and the size of the cache
    fair       the accuracy gap that a planted attribute leaves
    corrupted  several teachers, one of which gives random answers

`fair` uses Debian's Fashion-MNIST. `fair` and `corrupted` keep finished students below --out, and
continue where they were stopped. Each prints a Markdown table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgekd.app import build
from edgekd.app.console import Console
from edgekd.app.progress import stages_to, steps_to
from edgekd.core.artifacts import Dataset, Knowledge, Network, sha256
from edgekd.core.context import Context
from edgekd.core.shard_folders import MemoryShards
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
from edgekd.settings.recipe import DistilConfig
from edgekd.settings.setting_types import Toml
from edgekd.training import teacher_blend, views
from edgekd.training.cached_answers import CachedAnswers, knowledge_of
from edgekd.training.fit_plan import Step
from edgekd.training.lesson import Lesson, lesson
from edgekd.training.losses import label_losses
from edgekd.training.oracle_settings import OracleSettings
from edgekd.training.teacher_answers import TeacherAnswers
from tools.compare_images import figures
from tools.compare_table import interval

ROUNDS = 4  # of the speed measurement; each round measures every kind of answers
BATCHES = 6  # of 32 images, for each round and kind, after one that is not timed


def opened(
    arguments: argparse.Namespace, *sets: str, overrides: Mapping[str, Toml] | None = None
) -> Job:
    """The build of the arguments. `--set` comes after `sets`, and `overrides` after both."""
    teacher, _, weights = arguments.teacher.partition("@")
    named = {
        "data.source": arguments.data,
        "teacher.name": teacher,
        "teacher.weights": weights,
        "teacher.mode": "frozen",
        "distil.student": arguments.student,
    }
    settings = recipe.load(None, (*sets, *arguments.set), {**named, **(overrides or {})})
    return build.job(settings, arguments.profile)


# --- the cache ------------------------------------------------------------------------------------


def cache(arguments: argparse.Namespace) -> None:
    """Measure the same training with cached and with live answers, and the size of the cache."""
    job = opened(arguments, "data.input_px=96", "data.limit=128", "views.per_image=6")
    with Console() as console:
        done = run(
            job, Store(arguments.out, None), "knowledge", steps_to(console), stages_to(console)
        )
    dataset, teacher, known = load(done, "data"), load(done, "teacher"), load(done, "knowledge")
    # Plain KD: the projector costs the same with either kind of answers.
    config = dataclasses.replace(job.recipe.distil, pooled=0.0)
    kinds = {
        "cached": _lesson(job, dataset, config, known, None, ""),
        "live, bfloat16": _lesson(job, dataset, config, None, teacher, "bfloat16"),
        "live, float32": _lesson(job, dataset, config, None, teacher, "float32"),
    }
    rates = _rates({name: _trainer(job, dataset, made) for name, made in kinds.items()})
    print(
        f"\n{arguments.student} at {job.recipe.data.input_px} px on {dataset.name}, "
        f"batches of {config.batch}, teacher {arguments.teacher.partition('@')[0]} "
        f"at {teacher.px} px; images a CPU second, {ROUNDS} rounds in turn\n"
    )
    print("| teacher's answers | images a second | lowest, highest | cached is faster by |")
    print("|---|---|---|---|")
    for name, each in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["cached"], each, strict=True))
        print(
            f"| {name} | {statistics.median(each):.0f} | {min(each):.0f}, {max(each):.0f} "
            f"| {ratio:.2f} |"
        )
    print(_sizes(job, dataset, known))


def _rates(trained: Mapping[str, Callable[[], int]]) -> dict[str, list[float]]:
    """Images per CPU second of each kind of training, one number for each round."""
    rates: dict[str, list[float]] = {name: [] for name in trained}
    for _ in range(ROUNDS):
        for name, step in trained.items():
            step()
            start = time.process_time()
            rates[name].append(sum(step() for _ in range(BATCHES)) / (time.process_time() - start))
    return rates


def _sizes(job: Job, dataset: Dataset, known: Knowledge) -> str:
    """A sentence on the size of the cache, next to the size of the training images."""
    train = [image for image in dataset.images if image["split"] == "train"]
    loaded = (job.source.load(Item(image["name"], "", "train")) for image in train)
    files = sum(len(each) if isinstance(each, bytes) else each.nbytes for each in loaded)
    sizes = {name: value.nbytes for name, value in CachedAnswers(known).whole().items()}
    whole, features = sum(sizes.values()), sizes["pooled"]
    return (
        f"\n{len(train)} training images of {files / len(train) / 1024:.1f} KiB each; "
        f"{known.views} views: logits {(whole - features) / files:.2%} of the images' size, "
        f"pooled features {features / files:.1%} ({features / len(train) / 1024:.1f} KiB an image)"
    )


def _lesson(
    job: Job,
    dataset: Dataset,
    config: DistilConfig,
    known: Knowledge | None,
    teacher: Network | None,
    precision: str,
) -> Lesson:
    """The lesson with cached answers (`known`), or with live ones of `teacher` in `precision`."""
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
    """A function that trains on the next batch, and returns the number of its images."""
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


# --- fairness -------------------------------------------------------------------------------------

AGREES, CONFLICTS = "agrees", "conflicts"
FAIR_HEAD = (
    "| | top-1 | where the tint conflicts | gap | gap, each seed | against plain KD: gap; top-1 "
    "|\n|---|---|---|---|---|---|"
)


class Planted:
    """Two classes of Fashion-MNIST, whose images have a warm or a cold tint.

    The tint agrees with the class in all but a few training images, and in half of the test images.
    `cut`: the two classes. `conflicts`: the share of training images whose tint does not agree.
    `groups`: AGREES or CONFLICTS for each image, by its name.
    """

    name = "planted"
    labels = None
    TINTS = ((1.0, 0.7, 0.4), (0.4, 0.7, 1.0))  # what white becomes: red, green and blue

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
                    # Spread evenly over the images.
                    against = int((number + 1) * share) > int(number * share)
                    self.groups[item.name] = CONFLICTS if against else AGREES
                    self._items.append(item)

    def items(self) -> list[Item]:
        return list(self._items)

    def load(self, item: Item) -> NDArray[np.uint8]:
        tint = self.TINTS[self.cut.index(item.label) ^ (self.groups[item.name] == CONFLICTS)]
        grey = self.source.load(item).astype(np.float32)
        # Clothes are light on black. With an offset, dark parts have the tint, too.
        return ((64 + grey * 0.75)[:, :, None] * np.asarray(tint)).round().astype(np.uint8)

    def native_px(self) -> int:
        return self.source.native_px()

    def fingerprint(self) -> str:
        return sha256(json.dumps([self.source.fingerprint(), self.groups, self.TINTS]).encode())


@dataclasses.dataclass(frozen=True)
class GroupTop1:
    """Top-1 on the test split, from 0 to 1. `gap`: between the groups. `mean`: over the groups."""

    gap: float
    worst: float
    mean: float


@dataclasses.dataclass(frozen=True)
class FairRow:
    """One line of the table of `fair`. `sets`: settings of its recipe."""

    name: str
    sets: tuple[str, ...] = ()
    teacher: bool = True


def fair_rows(weights: Sequence[float]) -> list[FairRow]:
    """No teacher, plain KD, and fair distillation at each weight, with and without balance."""
    evenly = "distil.balance=group"
    found = [
        FairRow("labels only", teacher=False),
        FairRow("plain KD"),
        FairRow("KD, groups drawn evenly", (evenly,)),
    ]
    for weight in weights:
        name, loss = f"KD + fair, weight {weight:g}", f"distil.losses.fair={weight}"
        found += [
            FairRow(name, (loss,)),
            FairRow(f"{name}, groups drawn evenly", (evenly, loss)),
        ]
    return found


def fair(arguments: argparse.Namespace) -> None:
    """Measure plain KD and fair distillation on an attribute that misleads, over paired seeds."""
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
    found: dict[str, list[GroupTop1]] = {}
    store = Store(arguments.out, None)
    with Console() as console:
        for seed in arguments.seeds:
            for row in fair_rows(arguments.weights):
                overrides: dict[str, Toml] = {"distil.seed": seed}
                if not row.teacher:
                    overrides |= {"teacher.name": "none", "teacher.weights": ""}
                job = opened(arguments, *sets, *row.sets, overrides=overrides)
                job = dataclasses.replace(job, source=source)
                done = run(job, store, "distil", steps_to(console), stages_to(console))
                found.setdefault(row.name, []).append(_groups(load(done, "distil")))
                print(f"== {row.name}, seed {seed}: {found[row.name][-1]}", file=sys.stderr)
    print(
        f"\n{arguments.student}, {' and '.join(arguments.cut)} of Fashion-MNIST, "
        f"{arguments.images} training images a class, tint against the class in "
        f"{arguments.conflicts:.0%}; 1,000 test images, half against; seeds {arguments.seeds}\n"
    )
    print(_fair_table(found))


def _groups(student: Network) -> GroupTop1:
    """Top-1 of both groups of test images, as the stage "distil" measured it."""
    test = student.facts["groups"]["test"]
    each = {group: row["top1"] for group, row in test["each"].items()}
    return GroupTop1(
        gap=each[AGREES] - each[CONFLICTS],
        worst=min(each.values()),
        mean=statistics.mean(each.values()),
    )


def _fair_table(found: Mapping[str, Sequence[GroupTop1]]) -> str:
    """The Markdown table. `found`: the results of each row, seed by seed."""
    lines = [
        FAIR_HEAD,
    ]
    base = found["plain KD"]
    for name, runs in found.items():
        mean, worst, gap = (
            100 * statistics.mean(getattr(each, part) for each in runs)
            for part in ("mean", "worst", "gap")
        )
        pairs = list(zip(runs, base, strict=True))
        gaps = interval([each.gap - other.gap for each, other in pairs])
        means = interval([each.mean - other.mean for each, other in pairs])
        lines.append(
            f"| {name} | {mean:.1f} | {worst:.1f} | {gap:.1f} | "
            f"{', '.join(f'{100 * each.gap:.1f}' for each in runs)} | "
            f"{'' if runs is base else f'{gaps}; {means}'} |"
        )
    return "\n".join(lines)


# --- a corrupted teacher --------------------------------------------------------------------------


ALL, BROKEN = "all, by confidence", "the last one corrupted, by confidence"


def corrupted(arguments: argparse.Namespace) -> None:
    """Measure students of several teachers, one of which gives the answers of other images."""
    sets = (
        "data.input_px=64",
        "data.limit=60",
        "distil.epochs=16",
        "views.per_image=4",
        "distil.pooled=0",
    )
    with Console() as console:
        job = opened(arguments, *sets, overrides={"teacher.others": tuple(arguments.others)})
        done = run(
            job, Store(arguments.out, None), "knowledge", steps_to(console), stages_to(console)
        )
    dataset, known = load(done, "data"), load(done, "knowledge")
    said = CachedAnswers(known).whole()
    # Logits [views, n, teachers, k].
    every = torch.cat([said["logits"][:, :, None], said["others"]], 2).float()
    shuffled = torch.randperm(every.shape[1], generator=torch.Generator().manual_seed(0))
    broken = every.clone()
    broken[:, :, -1] = every[:, shuffled, -1]
    kinds = {
        "the first alone": _with(known, every[:, :, :1]),
        ALL: _with(known, every),
        BROKEN: _with(known, broken),
        "the last one corrupted, plain mean": _with(known, _mean(broken)),
    }
    found = _corrupted_top1(job, dataset, kinds, arguments)
    labels = torch.from_numpy(datasets.labels(dataset))[torch.tensor(known.rows)]
    targets = label_losses.soften(labels, len(dataset.classes), 0.0)
    shares = {
        name: teacher_blend.confidence(logits[0], targets).mean(0).tolist()
        for name, logits in ((ALL, every), (BROKEN, broken))
    }
    teachers = ", ".join(name.partition("@")[0] for name in (arguments.teacher, *arguments.others))
    print(
        f"\n{arguments.student} on {dataset.name}, {len(known.rows)} training images, "
        f"teachers {teachers}, seeds {arguments.seeds}\n"
    )
    print("| taught by | top-1 | each seed | against all | mean weight of each teacher |")
    print("|---|---|---|---|---|")
    for name, top1 in found.items():
        paired = [one - other for one, other in zip(top1, found[ALL], strict=True)]
        print(
            f"| {name} | {100 * statistics.mean(top1):.1f} | "
            f"{', '.join(f'{100 * one:.1f}' for one in top1)} | "
            f"{'' if name == ALL else interval(paired)} | "
            f"{', '.join(f'{one:.2f}' for one in shares.get(name, []))} |"
        )


def _corrupted_top1(
    job: Job, dataset: Dataset, kinds: Mapping[str, Knowledge], arguments: argparse.Namespace
) -> dict[str, list[float]]:
    """Top-1 of a student for each kind of knowledge and each seed.

    Finished figures are kept in corrupted.json and are not measured again.
    """
    file = arguments.out / "corrupted.json"
    kept: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.exists() else {}
    for seed in arguments.seeds:
        config = dataclasses.replace(job.recipe.distil, seed=seed)
        settings = DistilSettings(config, job.student, job.recipe.views, job.recipe.data.input_px)
        for name, knowledge in kinds.items():
            own = kept.setdefault(name, {})
            if str(seed) in own:
                continue
            student = distil.run(
                dataset,
                knowledge,
                None,
                settings=settings,
                context=Context(seed=job.recipe.seed),
            )
            own[str(seed)] = figures(student, dataset)["top1"]
            file.write_text(json.dumps(kept))
            print(f"== {name}, seed {seed}: {own[str(seed)]:.3f}", file=sys.stderr, flush=True)
    return {name: [kept[name][str(seed)] for seed in arguments.seeds] for name in kinds}


def _mean(every: torch.Tensor) -> torch.Tensor:
    """Logits of the mean of the teachers' probabilities, as of one teacher, [views, n, 1, k]."""
    return every.softmax(3).mean(2, keepdim=True).clamp(min=1e-7).log()


def _with(known: Knowledge, every: torch.Tensor) -> Knowledge:
    """The knowledge with other logits: those of its teachers, [views, n, teachers, k]."""
    first, others = every[:, :, 0], every[:, :, 1:]
    answers = {"logits": first.half()} | ({"others": others.half()} if others.shape[2] else {})
    return knowledge_of(known.rows, known.classes, answers, known.facts, MemoryShards("changed"))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("what", choices=("cache", "fair", "corrupted"))
    made.add_argument("--data", default="fashion-mnist", help="for cache and corrupted")
    made.add_argument("--profile", default="pi4")
    made.add_argument(
        "--teacher", required=True, help="NAME or NAME@FILE, frozen with a linear head"
    )
    made.add_argument(
        "--others",
        nargs="+",
        default=[],
        help="for corrupted: further teachers; the last one is corrupted",
    )
    made.add_argument("--student", default="mobilenetv2_050")
    made.add_argument(
        "--weights", type=float, nargs="+", default=[5.0, 25.0], help="for fair: of the loss"
    )
    made.add_argument("--images", type=int, default=300, help="for fair: training images per class")
    made.add_argument(
        "--cut", nargs=2, default=["dress", "coat"], help="for fair: two classes of Fashion-MNIST"
    )
    made.add_argument(
        "--conflicts",
        type=float,
        default=0.1,
        help="for fair: share of training images whose tint misleads",
    )
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--set", action="append", default=[])
    made.add_argument("--out", type=Path, default=Path("builds/modes"))
    return made


def main() -> None:
    arguments = parser().parse_args()
    {"cache": cache, "fair": fair, "corrupted": corrupted}[arguments.what](arguments)


if __name__ == "__main__":
    main()
