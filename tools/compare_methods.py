"""What each method and mode gives against no teacher, in equal budgets, over paired seeds.

    python tools/compare_methods.py --data fashion-mnist --teacher NAME@FILE --teacher-frozen --out builds/methods

Every row trains the same student for the same epochs on the same images, split and views; only what teaches it differs. A
seed is the student's (distil.seed): its first weights and the order of its images. Differences are of paired seeds, row
minus no teacher, with a 95 % interval (Student's t over the seeds). Losses between logits stand in for plain KD beside the
labels, at their published weights; losses on features, relations and explanations are added to plain KD. Students are
judged on more test images than they have training images (`--judged` a class): few would hide what a row gains.

`--unlabelled N` shows rows with a teacher N more training images of the source, without their labels, in fewer epochs: the
same labels and as many steps for every row. Where labels are few and images are not, this is what a teacher is for. A source
without a test split is divided first, so that it has the same test images with every data.limit.

All runs share one store, so the script goes on where it was stopped. Writes the table that is there so far to table.md
after each run, and prints it; `--rows` picks rows. Times are CPU seconds of the student's training, teacher's calls included.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import math
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from edgekd.app import build
from edgekd.app.console import Console
from edgekd.app.progress import stages_to, steps_to
from edgekd.core.artifacts import Dataset, Network
from edgekd.core.errors import RecipeError
from edgekd.core.store import Store
from edgekd.data import datasets
from edgekd.data.sources import Item, Source
from edgekd.evaluation import metrics
from edgekd.networks import builders
from edgekd.networks.inference import logits_of, precision
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.pipeline.runner import run
from edgekd.settings import loss_catalogue, recipe
from edgekd.training import views

# At 64 px the student's last map has 2 x 2 places, the fewest at which losses on maps mean anything.
BUDGET = ("data.input_px=64", "data.limit=60", "distil.epochs=16", "views.per_image=4")

# Two-sided 95 % points of Student's t, by degrees of freedom.
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
LOGGED = 5  # classes a row of the log: what a production service writes


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table. `sets` go to the recipe; `teacher` is False where none is loaded."""

    name: str
    title: str
    sets: dict[str, Any]
    teacher: bool = True


KD = {"distil.alpha": 0.9, "distil.pooled": 0.0}
LABELS = {"distil.alpha": 0.0, "distil.pooled": 0.0}
IN_PLACE_OF_KD = ("kd_standardised", "dkd", "nkd", "dist", "dist_batch")
WITHOUT_TEACHER = tuple(name for name, method in loss_catalogue.METHODS.items() if not method.needs)
LEFT_OUT = {
    "per_label": "it is for several labels an image",
    "fair": "it needs images with groups",
    "live": "its student is the cached teacher's, bit for bit",
}


def rows(log: Path, second: str) -> list[Row]:
    """Every row, in the table's order."""
    found = [
        Row("none", "no teacher", {}, teacher=False),
        Row("kd", "plain KD", KD),
        Row("default", "the default recipe: KD + orthogonal projector (VkD)", {}),
    ]
    for name in IN_PLACE_OF_KD:
        found.append(
            Row(
                name,
                loss_catalogue.METHODS[name].title,
                {**LABELS, f"distil.losses.{name}": loss_catalogue.METHODS[name].weight},
            )
        )
    found += [
        Row("fitnet", "KD + grid-aligned FitNet", {**KD, "distil.grid": 1.0}),
        Row("ofa", "KD + OFA exits", {**KD, "distil.exits": 1.0}),
    ]
    for name, method in loss_catalogue.METHODS.items():
        if name in (*IN_PLACE_OF_KD, *WITHOUT_TEACHER, *LEFT_OUT):
            continue
        found.append(
            Row(name, f"KD + {method.title}", {**KD, f"distil.losses.{name}": method.weight})
        )
    found += [
        Row(
            name,
            loss_catalogue.METHODS[name].title,
            {f"distil.losses.{name}": loss_catalogue.METHODS[name].weight},
            teacher=False,
        )
        for name in WITHOUT_TEACHER
    ]
    found.append(
        Row(
            "corrected",
            "the student proposes, the teacher corrects",
            {**KD, "distil.answers": "corrected"},
        )
    )
    found.append(
        Row(
            "withheld",
            "label-free: the teacher's answers stand in for the labels",
            {**KD, "distil.alpha": 1.0, "distil.labels": "withheld"},
        )
    )
    found.append(
        Row(
            "logs",
            f"from logs: a CSV of top-{LOGGED} answers, no teacher",
            {**KD, "distil.logs": str(log)},
        )
    )
    if second:
        found.append(
            Row(
                "several",
                f"two teachers by confidence: and {second.partition('@')[0]}",
                {**KD, "teacher.others": (second,)},
            )
        )
    return found


def job(arguments: argparse.Namespace, row: Row, seed: int) -> Job:
    """The build of one row and seed."""
    teacher, _, weights = arguments.teacher.partition("@")
    student, _, student_weights = arguments.student.partition("@")
    overrides = {
        "data.source": arguments.data,
        "teacher.name": teacher if row.teacher else "none",
        "teacher.weights": weights if row.teacher else "",
        "teacher.mode": "frozen" if arguments.teacher_frozen else "finetune",
        "distil.student": student,
        "distil.weights": student_weights,
        "distil.seed": seed,
        **row.sets,
        **(arguments.beside if row.teacher else {}),
    }
    return build.job(
        recipe.load(arguments.recipe, (*BUDGET, *arguments.set), overrides), arguments.profile
    )


def write_images(folder: Path, source: Source, places: Iterable[tuple[Item, str]]) -> None:
    """Write images of a source to a folder, each to the place below it that is named without a suffix; once, and whole."""
    if (
        folder.is_dir()
    ):  # a file's time of change is part of what identifies it, so what is there stays
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
    """Write a data set to train/CLASS and test/CLASS: then its test images are the same ones with every data.limit."""
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
    """Write `count` of the source's training images that are not in the data set to a folder, once.

    Raises SystemExit where the source has not so many.
    """
    taken = {image["name"] for image in dataset.images}
    left = [item for item in source.items() if item.split == "train" and item.name not in taken]
    if len(left) < count:
        sys.exit(
            f"--unlabelled {count}: {dataset.name} has {len(left)} training images beyond data.limit"
        )
    chosen = sorted(np.random.default_rng(0).permutation(len(left))[:count])
    write_images(folder, source, ((left[place], str(place)) for place in chosen))


def answers(
    network: Network, dataset: Dataset, split: str, dtype: torch.dtype = torch.float32
) -> np.ndarray:
    """Logits of one split's plain images."""
    render = views.Renderer(datasets.pixels(dataset), network.px, network.mean, network.std)
    chosen = torch.from_numpy(datasets.rows(dataset, split))
    return logits_of(
        builders.restore(network), (render.plain(part) for part in chosen.split(64)), dtype
    )


def figures(
    network: Network, dataset: Dataset, dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """Top-1 and AUC on the test split."""
    return metrics.quick(answers(network, dataset, "test", dtype), datasets.labels(dataset, "test"))


def contents(dataset: Dataset, split: str) -> set[str]:
    """Digests of a split's images."""
    return {image["sha256"] for image in dataset.images if image["split"] == split}


class Costs:
    """CPU seconds that each student took, by its stage's key, kept in a file: a run that goes on later tells them, too."""

    def __init__(self, file: Path) -> None:
        self.file, self.started = file, 0.0
        self.known: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}

    def watch(self, then: Callable[[str, Done | None], None]) -> Callable[[str, Done | None], None]:
        """An `on_stage` that notes what `distil` cost, and calls `then`."""

        def stage(name: str, done: Done | None) -> None:
            if done is None:
                self.started = time.process_time()
            elif name == "distil" and not done.cached:
                self.known[done.entry.key] = time.process_time() - self.started
                self.file.write_text(json.dumps(self.known))
            then(name, done)

        return stage

    def of(self, done: Done) -> float:
        """CPU seconds of a student; not a number where another program trained it."""
        return self.known.get(done.entry.key, math.nan)


def write_log(path: Path, teacher: Network, dataset: Dataset, dtype: torch.dtype) -> None:
    """The teacher's top answers about the plain training images, as a service would have logged them."""
    said = metrics.probabilities(answers(teacher, dataset, "train", dtype))
    k = min(LOGGED, len(dataset.classes))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            [
                "image",
                "sha256",
                *(f"{what}_{place}" for place in range(1, k + 1) for what in ("class", "p")),
            ]
        )
        for row, p in zip(datasets.rows(dataset, "train"), said, strict=True):
            image = dataset.images[int(row)]
            best = [
                part
                for place in np.argsort(-p)[:k]
                for part in (dataset.classes[place], f"{p[place]:.6f}")
            ]
            table.writerow([image["name"], image["sha256"], *best])


def interval(differences: list[float]) -> str:
    """Mean of paired differences in points, with the half-width of its 95 % interval."""
    mean = 100 * statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.1f}"
    half = (
        T95.get(len(differences) - 1, 1.96)
        * 100
        * statistics.stdev(differences)
        / math.sqrt(len(differences))
    )
    return f"{mean:+.1f} +- {half:.1f}"


Seen = dict[str, dict[int, dict[str, float]]]  # figures by row and seed


def table(order: Iterable[Row], seen: Seen, refused: dict[str, str]) -> str:
    """The Markdown table of the rows that are there."""
    lines = [
        "| | top-1 | each seed | against no teacher | AUC | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    base = seen.get("none", {})
    for row in order:
        if row.name in refused:
            lines.append(f"| {row.title} (`{row.name}`) | refused: {refused[row.name]} | | | | |")
            continue
        if row.name not in seen:
            continue
        runs = list(seen[row.name].values())
        top1 = [100 * one["top1"] for one in runs]
        paired = [
            one["top1"] - base[seed]["top1"] for seed, one in seen[row.name].items() if seed in base
        ]
        area = (
            statistics.mean(one["auc"] for one in runs)
            if all("auc" in one for one in runs)
            else float("nan")
        )
        note = f", {runs[0]['asked']:.0%} of the teacher's calls" if "asked" in runs[0] else ""
        lines.append(
            f"| {row.title} (`{row.name}`){note} | {statistics.mean(top1):.1f} | "
            f"{', '.join(f'{value:.1f}' for value in top1)} | "
            f"{interval(paired) if paired and row.name != 'none' else ''} | {area:.3f} | "
            f"{statistics.mean(one['seconds'] for one in runs):.0f} |"
        )
    return "\n".join(lines)


class Untrained(Exception):
    """A student that is not in the store, where nothing is to be trained."""


def _only_finished(_name: str, done: Done | None) -> None:
    if done is None:
        raise Untrained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--profile", default="pi4")
    parser.add_argument("--teacher", required=True, help="NAME or NAME@FILE")
    parser.add_argument("--teacher-frozen", action="store_true")
    parser.add_argument(
        "--second-teacher", default="", help="NAME or NAME@FILE; adds the row of two teachers"
    )
    parser.add_argument("--student", default="mobilenetv2_050")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--judged", type=int, default=200, help="test images a class; 0: all")
    parser.add_argument(
        "--unlabelled",
        type=int,
        default=0,
        help="training images beyond data.limit that rows with a teacher see without their labels",
    )
    parser.add_argument(
        "--asked",
        type=int,
        default=0,
        help="with --unlabelled: views of an image that the teacher is asked about; 0: views.per_image",
    )
    parser.add_argument("--rows", nargs="+", help="only these rows")
    parser.add_argument(
        "--finished", action="store_true", help="train nothing: the table of what is there"
    )
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path, default=Path("builds/methods"))
    arguments = parser.parse_args()
    arguments.beside = {}
    store, costs = Store(arguments.out, None), Costs(arguments.out / "costs.json")
    log = arguments.out / "teacher_log.csv"
    order = rows(log, arguments.second_teacher)
    if arguments.rows:
        unknown = set(arguments.rows) - {row.name for row in order}
        if unknown:
            sys.exit(
                f"unknown rows {', '.join(sorted(unknown))}; there are {', '.join(row.name for row in order)}"
            )
        order = [row for row in order if row.name in arguments.rows]
    seen: Seen = {}
    refused: dict[str, str] = {}
    with Console() as console, store.lock():
        whole = job(arguments, Row("none", "", {"data.limit": 0}, False), 0)
        if arguments.unlabelled and not any(item.split == "test" for item in whole.source.items()):
            arguments.data = str(arguments.out / "divided")
            divide(
                Path(arguments.data),
                whole.source,
                load(run(whole, store, "data", steps_to(console)), "data"),
            )
        first = run(
            job(arguments, Row("kd", "", KD), arguments.seeds[0]),
            store,
            "teacher",
            steps_to(console),
            stages_to(console),
        )
        dataset, teacher = load(first, "data"), load(first, "teacher")
        wider = argparse.Namespace(
            **vars(arguments) | {"set": [*arguments.set, f"data.limit={arguments.judged}"]}
        )
        judges: Dataset = load(
            run(job(wider, Row("none", "", {}, False), 0), store, "data", steps_to(console)), "data"
        )
        if shared := contents(dataset, "train") & contents(judges, "test"):
            sys.exit(
                f"--judged {arguments.judged}: {len(shared)} training images would be test images; the data needs a test "
                "split of its own"
            )
        dtype = precision("auto", builders.restore(teacher))
        write_log(log, teacher, dataset, dtype)
        known = figures(teacher, judges, dtype)
        plain = job(arguments, Row("none", "", {}, False), 0)
        train, epochs = len(datasets.rows(dataset, "train")), plain.recipe.distil.epochs
        if arguments.unlabelled:
            folder = arguments.out / f"unlabelled-{arguments.unlabelled}"
            leave_unlabelled(folder, plain.source, dataset, arguments.unlabelled)
            every = train + arguments.unlabelled
            fewer = max(1, round(epochs * train / every))
            arguments.beside = {
                "data.unlabelled": str(folder),
                "data.duplicates": "drop",
                "distil.epochs": fewer,
                "views.per_image": min(arguments.asked or plain.recipe.views.per_image, fewer),
            }
        watch = costs.watch(_only_finished if arguments.finished else stages_to(console))
        for seed in arguments.seeds:  # seed by seed, so that a table of few seeds is whole early
            for row in order:
                if row.name in refused:
                    continue
                print(f"== {row.name}, seed {seed}", file=sys.stderr, flush=True)
                try:
                    done = run(job(arguments, row, seed), store, "distil", steps_to(console), watch)
                except Untrained:
                    continue
                except (
                    RecipeError
                ) as error:  # undefined for these classes, or for this student: said, and left out
                    refused[row.name] = error.what
                    continue
                student = load(done, "distil")
                one = figures(student, judges) | {"seconds": costs.of(done["distil"])}
                last = student.history[-1]
                if "teacher_calls" in last:
                    one["asked"] = last["teacher_calls"] / last["views_shown"]
                seen.setdefault(row.name, {})[seed] = one
                (arguments.out / "table.md").write_text(
                    table(order, seen, refused) + "\n", encoding="utf-8"
                )
    if arguments.beside:
        print(
            f"\nRows with a teacher: {arguments.unlabelled} images more, without labels, {arguments.beside['distil.epochs']} "
            f"epochs of all in place of {epochs} of those with labels"
        )
    print(
        f"\n{arguments.student} on {dataset.name}, {len(dataset.classes)} classes, {train} training and "
        f"{len(datasets.rows(judges, 'test'))} test images, seeds {', '.join(map(str, arguments.seeds))}; "
        f"teacher {arguments.teacher.partition('@')[0]}: {100 * known['top1']:.1f} % top-1\n"
    )
    print(table(order, seen, refused))
    for name, why in LEFT_OUT.items():
        print(f"\n`{name}` is no row here: {why}.")


if __name__ == "__main__":
    main()
