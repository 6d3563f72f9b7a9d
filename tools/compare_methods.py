"""Compares the distillation methods with no teacher, in equal budgets and over paired seeds.

    python tools/compare_methods.py --teacher NAME@FILE --teacher-frozen --out builds/methods

Every row trains the same student for the same number of epochs on the same images, split and views.
Rows differ only in the method. The seed is the student's (distil.seed): it decides the first
weights and the order of the images. Differences are between the row and no teacher with the same
seed, with a 95 % interval (Student's t over the seeds). Losses between logits replace plain KD, at
their published weights. Losses on features, relations and explanations are added to plain KD. The
students are judged on `--judged` test images per class, more than they have training images: with
few test images, small gains would not show.

`--unlabelled N` gives rows with a teacher N more training images of the source, without labels, in
fewer epochs: every row has the same labels and the same number of steps. This measures a teacher
where labels are few and images are not. A source without a test split is divided first, so that it
has the same test images with every data.limit.

All runs share one store, and a run that was stopped continues where it was. After each student, the
table so far is written to table.md. `--rows` chooses rows. Times are CPU seconds of the student's
training, with the calls of the teacher.
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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

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
from edgekd.settings.setting_types import Toml
from edgekd.training import views

# At 64 px the student's last map has 2 x 2 places. With a single place, losses on maps would mean
# nothing.
BUDGET = ("data.input_px=64", "data.limit=60", "distil.epochs=16", "views.per_image=4")

# Two-sided 95 % points of Student's t, by degrees of freedom.
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
LOGGED = 5  # classes in a row of the log, as a production service writes them


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table. `sets`: settings of the recipe. `teacher`: whether one is loaded."""

    name: str
    title: str
    sets: Mapping[str, Toml]
    teacher: bool = True


@dataclasses.dataclass(frozen=True)
class Result:
    """One trained student.

    `auc`: None where a class has no test image. `seconds`: CPU seconds, NaN where they are not
    known. `asked`: the share of views that the teacher was asked about, None for all or none.
    """

    top1: float
    auc: float | None
    seconds: float
    asked: float | None


# {row: {seed: result}}
Results = dict[str, dict[int, Result]]


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all rows share.

    `judges`: the data set whose test split judges the students. `beside`: settings of rows with a
    teacher under --unlabelled. `teacher_top1`: on the test images. `train`, `epochs`: labelled
    training images, and epochs of rows without unlabelled images.
    """

    dataset: Dataset
    judges: Dataset
    beside: Mapping[str, Toml]
    teacher_top1: float
    train: int
    epochs: int


KD: dict[str, Toml] = {"distil.alpha": 0.9, "distil.pooled": 0.0}
LABELS: dict[str, Toml] = {"distil.alpha": 0.0, "distil.pooled": 0.0}
IN_PLACE_OF_KD = ("kd_standardised", "dkd", "nkd", "dist", "dist_batch")
WITHOUT_TEACHER = tuple(name for name, method in loss_catalogue.METHODS.items() if not method.needs)
LEFT_OUT = {
    "per_label": "it is for several labels an image",
    "fair": "it needs images with groups",
    "live": "its student is bit for bit that of the cached teacher",
}


def rows(log: Path, second: str) -> list[Row]:
    """Every row, in the order of the table.

    `log`: the CSV file of logged answers. `second`: a second teacher as NAME or NAME@FILE, or "".
    """
    losses = {
        name: {f"distil.losses.{name}": method.weight}
        for name, method in loss_catalogue.METHODS.items()
    }
    titles = {name: method.title for name, method in loss_catalogue.METHODS.items()}
    special = (*IN_PLACE_OF_KD, *WITHOUT_TEACHER, *LEFT_OUT)
    found = [
        Row("none", "no teacher", {}, teacher=False),
        Row("kd", "plain KD", KD),
        Row("default", "the default recipe: KD + orthogonal projector (VkD)", {}),
        *(Row(name, titles[name], {**LABELS, **losses[name]}) for name in IN_PLACE_OF_KD),
        Row("fitnet", "KD + grid-aligned FitNet", {**KD, "distil.grid": 1.0}),
        Row("ofa", "KD + OFA exits", {**KD, "distil.exits": 1.0}),
        *(
            Row(name, f"KD + {titles[name]}", {**KD, **losses[name]})
            for name in losses
            if name not in special
        ),
        *(Row(name, titles[name], losses[name], teacher=False) for name in WITHOUT_TEACHER),
        Row(
            "corrected",
            "the student proposes, the teacher corrects",
            {**KD, "distil.answers": "corrected"},
        ),
        Row(
            "withheld",
            "label-free: the teacher's answers stand in for the labels",
            {**KD, "distil.alpha": 1.0, "distil.labels": "withheld"},
        ),
        Row(
            "logs",
            f"from logs: a CSV of top-{LOGGED} answers, no teacher",
            {**KD, "distil.logs": str(log)},
        ),
    ]
    if second:
        title = f"two teachers by confidence: and {second.partition('@')[0]}"
        found.append(Row("several", title, {**KD, "teacher.others": (second,)}))
    return found


NONE, PLAIN_KD = Row("none", "", {}, teacher=False), Row("kd", "", KD)


def job(
    arguments: argparse.Namespace, row: Row, seed: int, beside: Mapping[str, Toml] | None = None
) -> Job:
    """The build of one row and seed. `beside`: settings of rows with a teacher."""
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
        **(beside if beside and row.teacher else {}),
    }
    return build.job(
        recipe.load(arguments.recipe, (*BUDGET, *arguments.set), overrides), arguments.profile
    )


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


class Costs:
    """CPU seconds of each student's training, by the key of its stage.

    They are kept in a file, so that a run that continues later still knows them.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.started = file, 0.0
        self.known: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}

    def watch(self, then: Callable[[str, Done | None], None]) -> Callable[[str, Done | None], None]:
        """A callback for `on_stage` that measures the stage "distil", and calls `then`."""

        def stage(name: str, done: Done | None) -> None:
            if done is None:
                self.started = time.process_time()
            elif name == "distil" and not done.cached:
                self.known[done.entry.key] = time.process_time() - self.started
                self.file.write_text(json.dumps(self.known))
            then(name, done)

        return stage

    def of(self, done: Done) -> float:
        """CPU seconds of a student; NaN if another program trained it."""
        return self.known.get(done.entry.key, math.nan)


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


def interval(differences: list[float]) -> str:
    """The mean of paired differences in points, with the half-width of its 95 % interval."""
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


def table(order: Iterable[Row], results: Results, refused: Mapping[str, str]) -> str:
    """The Markdown table of the rows that have a result or were refused."""
    lines = [
        "| | top-1 | each seed | against no teacher | AUC | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for row in order:
        if row.name in refused:
            lines.append(f"| {row.title} (`{row.name}`) | refused: {refused[row.name]} | | | | |")
        elif row.name in results:
            lines.append(line(row, results[row.name], results.get("none", {})))
    return "\n".join(lines)


def line(row: Row, results: Mapping[int, Result], base: Mapping[int, Result]) -> str:
    """One line of the table. `results`, `base`: of the row and of no teacher, by seed."""
    runs = list(results.values())
    top1 = [100 * each.top1 for each in runs]
    paired = [each.top1 - base[seed].top1 for seed, each in results.items() if seed in base]
    difference = interval(paired) if paired and row.name != "none" else ""
    area = statistics.mean(math.nan if each.auc is None else each.auc for each in runs)
    note = "" if runs[0].asked is None else f", {runs[0].asked:.0%} of the teacher's calls"
    return (
        f"| {row.title} (`{row.name}`){note} | {statistics.mean(top1):.1f} | "
        f"{', '.join(f'{value:.1f}' for value in top1)} | {difference} | {area:.3f} | "
        f"{statistics.mean(each.seconds for each in runs):.0f} |"
    )


class Untrained(Exception):
    """Raised with --finished for a student that is not in the store."""


def _only_finished(_name: str, done: Done | None) -> None:
    """Stop before a stage runs."""
    if done is None:
        raise Untrained


def chosen_rows(arguments: argparse.Namespace, log: Path) -> list[Row]:
    """The rows that the arguments ask for. Raises SystemExit for an unknown row."""
    order = rows(log, arguments.second_teacher)
    if not arguments.rows:
        return order
    names = [row.name for row in order]
    if unknown := set(arguments.rows) - set(names):
        sys.exit(f"unknown rows {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    return [row for row in order if row.name in arguments.rows]


def set_up(arguments: argparse.Namespace, log: Path, store: Store, console: Console) -> Setup:
    """Train the teacher, write the log of its answers, and prepare the data of all rows.

    With --unlabelled and a source without a test split, `arguments.data` becomes a divided copy.
    Raises SystemExit if training images would be among the test images.
    """
    whole = job(arguments, dataclasses.replace(NONE, sets={"data.limit": 0}), 0)
    if arguments.unlabelled and not any(item.split == "test" for item in whole.source.items()):
        arguments.data = str(arguments.out / "divided")
        divided = load(run(whole, store, "data", steps_to(console)), "data")
        divide(Path(arguments.data), whole.source, divided)
    first = job(arguments, PLAIN_KD, arguments.seeds[0])
    done = run(first, store, "teacher", steps_to(console), stages_to(console))
    dataset, teacher = load(done, "data"), load(done, "teacher")
    wider = argparse.Namespace(
        **vars(arguments) | {"set": [*arguments.set, f"data.limit={arguments.judged}"]}
    )
    judges = load(run(job(wider, NONE, 0), store, "data", steps_to(console)), "data")
    if shared := contents(dataset, "train") & contents(judges, "test"):
        sys.exit(
            f"--judged {arguments.judged}: {len(shared)} training images would be test images; "
            "the data needs a test split of its own"
        )
    dtype = precision("auto", builders.restore(teacher))
    write_log(log, teacher, dataset, dtype)
    plain = job(arguments, NONE, 0)
    return Setup(
        dataset=dataset,
        judges=judges,
        beside=unlabelled_settings(arguments, plain, dataset) if arguments.unlabelled else {},
        teacher_top1=figures(teacher, judges, dtype)["top1"],
        train=len(datasets.rows(dataset, "train")),
        epochs=plain.recipe.distil.epochs,
    )


def unlabelled_settings(
    arguments: argparse.Namespace, plain: Job, dataset: Dataset
) -> dict[str, Toml]:
    """Write the unlabelled images. Returns the settings with which rows with a teacher see them.

    `plain`: the build without a teacher, whose number of steps these rows keep.
    """
    folder = arguments.out / f"unlabelled-{arguments.unlabelled}"
    leave_unlabelled(folder, plain.source, dataset, arguments.unlabelled)
    train = len(datasets.rows(dataset, "train"))
    epochs = max(1, round(plain.recipe.distil.epochs * train / (train + arguments.unlabelled)))
    return {
        "data.unlabelled": str(folder),
        "data.duplicates": "drop",
        "distil.epochs": epochs,
        "views.per_image": min(arguments.asked or plain.recipe.views.per_image, epochs),
    }


def result(student: Network, judges: Dataset, seconds: float) -> Result:
    """Judge a trained student on the test split of `judges`."""
    found, last = figures(student, judges), student.history[-1]
    asked = last["teacher_calls"] / last["views_shown"] if "teacher_calls" in last else None
    return Result(found["top1"], found.get("auc"), seconds, asked)


def train_all(
    arguments: argparse.Namespace, order: list[Row], setup: Setup, store: Store, console: Console
) -> tuple[Results, dict[str, str]]:
    """Train and judge every student. Returns the results, and the reasons of refused rows.

    It goes seed by seed, so that the table of the first seed is complete early.
    """
    costs = Costs(arguments.out / "costs.json")
    watch = costs.watch(_only_finished if arguments.finished else stages_to(console))
    results: Results = {}
    refused: dict[str, str] = {}
    for seed in arguments.seeds:
        for row in order:
            if row.name in refused:
                continue
            print(f"== {row.name}, seed {seed}", file=sys.stderr, flush=True)
            try:
                wanted = job(arguments, row, seed, setup.beside)
                done = run(wanted, store, "distil", steps_to(console), watch)
            except Untrained:
                continue
            except RecipeError as error:
                # The method is not defined for these classes or for this student.
                refused[row.name] = error.what
                continue
            student, seconds = load(done, "distil"), costs.of(done["distil"])
            results.setdefault(row.name, {})[seed] = result(student, setup.judges, seconds)
            text = table(order, results, refused) + "\n"
            (arguments.out / "table.md").write_text(text, encoding="utf-8")
    return results, refused


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    made.add_argument("--recipe", type=Path)
    made.add_argument("--data", default="fashion-mnist")
    made.add_argument("--profile", default="pi4")
    made.add_argument("--teacher", required=True, help="NAME or NAME@FILE")
    made.add_argument("--teacher-frozen", action="store_true")
    made.add_argument(
        "--second-teacher", default="", help="NAME or NAME@FILE; adds the row of two teachers"
    )
    made.add_argument("--student", default="mobilenetv2_050")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--judged", type=int, default=200, help="test images per class; 0: all")
    made.add_argument(
        "--unlabelled",
        type=int,
        default=0,
        help="further training images that rows with a teacher see without their labels",
    )
    made.add_argument(
        "--asked",
        type=int,
        default=0,
        help="with --unlabelled: views of an image that the teacher answers; 0: views.per_image",
    )
    made.add_argument("--rows", nargs="+", help="only these rows")
    made.add_argument(
        "--finished", action="store_true", help="train nothing; print the finished rows"
    )
    made.add_argument("--set", action="append", default=[])
    made.add_argument("--out", type=Path, default=Path("builds/methods"))
    return made


def main() -> None:
    arguments = parser().parse_args()
    store, log = Store(arguments.out, None), arguments.out / "teacher_log.csv"
    order = chosen_rows(arguments, log)
    with Console() as console, store.lock():
        setup = set_up(arguments, log, store, console)
        results, refused = train_all(arguments, order, setup, store, console)
    if setup.beside:
        print(
            f"\nRows with a teacher: {arguments.unlabelled} images more, without labels, "
            f"{setup.beside['distil.epochs']} epochs of all in place of {setup.epochs} of those "
            "with labels"
        )
    print(
        f"\n{arguments.student} on {setup.dataset.name}, {len(setup.dataset.classes)} classes, "
        f"{setup.train} training and {len(datasets.rows(setup.judges, 'test'))} test images, "
        f"seeds {', '.join(map(str, arguments.seeds))}; "
        f"teacher {arguments.teacher.partition('@')[0]}: {100 * setup.teacher_top1:.1f} % top-1\n"
    )
    print(table(order, results, refused))
    for name, why in LEFT_OUT.items():
        print(f"\n`{name}` is no row here: {why}.")


if __name__ == "__main__":
    main()
