"""Compares distillation methods with labels alone, in equal budgets and over paired seeds.

    python -m tools.compare_methods --teacher NAME@FILE --teacher-frozen --out builds/methods
    python -m tools.compare_methods --data A --data B --rows kd default patient --int8 ...
    python -m tools.compare_methods --row long=distil.epochs=160,views.mixup=1 ...

Every row trains the same student on the same images and split. Rows differ in the method, in what
a preset sets (`--rows quick standard patient`, with the preset's own epochs and views), or in the
settings of `--row NAME=SETTING,SETTING`. Each row is compared with labels alone in the same number
of steps and with the same views; that row is added where it is missing. Losses between logits
replace plain KD, at their default weights. Losses on features, relations and explanations are added
to plain KD.

The seed is the student's (distil.seed): it decides the first weights and the order of the images.
Differences are between a row and labels alone with the same seed, with a 95 % interval (Student's t
over the seeds), and so is the share of the gap between labels alone and the teacher that is closed.
The students are judged on `--judged` test images per class, more than they have training images:
with few test images, small gains would not show. `--int8` goes on to the int8 file of each student
and judges that.

`--unlabelled N` gives rows with a teacher N more training images of the source, without labels, in
fewer epochs: every row has the same labels and the same number of steps. This measures a teacher
where labels are few and images are not. A source without a test split is divided first, so that it
has the same test images with every data.limit.

All runs share one store, and a run that was stopped continues where it was. After each student, the
table so far is written to table.md. Times are CPU seconds: of the student's training with the calls
of the teacher, and of the teacher itself with its cached answers.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from edgekd.app import build
from edgekd.app.console import Console
from edgekd.app.progress import stages_to, steps_to
from edgekd.core.artifacts import Dataset, canonical_json, sha256
from edgekd.core.errors import EdgeKDError, RecipeError
from edgekd.core.store import Store
from edgekd.data import datasets
from edgekd.networks import builders, weight_files
from edgekd.networks.inference import precision
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.pipeline.runner import run
from edgekd.settings import presets, recipe
from edgekd.settings.setting_types import Toml
from tools import compare_rows, plain_kd
from tools.compare_costs import Costs
from tools.compare_images import (
    contents,
    divide,
    figures,
    int8_figures,
    leave_unlabelled,
    write_log,
)
from tools.compare_rows import LEFT_OUT, NONE, PLAIN_KD, Row
from tools.compare_table import Block, Result, Results, table

# At 64 px the student's last map has 2 x 2 places. With a single place, losses on maps would mean
# nothing.
BUDGET = ("data.input_px=64", "data.limit=60", "distil.epochs=16", "views.per_image=4")


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all rows of a data set share.

    `judges`: the data set whose test split judges the students. `beside`: settings of rows with a
    teacher under --unlabelled. `teacher`: its top-1 and AUC on the test images. `train`, `epochs`:
    labelled training images, and epochs of rows without unlabelled images.
    """

    dataset: Dataset
    judges: Dataset
    beside: Mapping[str, Toml]
    teacher: Mapping[str, float]
    train: int
    epochs: int


def job(
    arguments: argparse.Namespace, row: Row, seed: int, beside: Mapping[str, Toml] | None = None
) -> Job:
    """The build of one row and seed. `beside`: settings of rows with a teacher.

    A row that learns features first does so in a part of these settings' epochs: half, unless it
    says how many.
    """
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
        **(_shared_out(beside, row.sets) if beside and row.teacher else {}),
    }
    sets = (*BUDGET, *arguments.set)
    if row.preset:  # what is given would win over the preset
        sets = tuple(text for text in sets if text.partition("=")[0].strip() not in presets.KEYS)
    return build.job(recipe.load(arguments.recipe, sets, overrides), arguments.profile)


def _shared_out(beside: Mapping[str, Toml], sets: Mapping[str, Toml]) -> dict[str, Toml]:
    """The settings `beside`, with their epochs divided where a row learns features first."""
    if sets.get("distil.pretrain", "none") == "none":
        return dict(beside)
    whole = int(beside["distil.epochs"])
    first = int(sets.get("distil.pretrain_epochs", whole // 2))
    return {**beside, "distil.pretrain_epochs": first, "distil.epochs": max(1, whole - first)}


def set_up(arguments: argparse.Namespace, log: Path, store: Store, console: Console) -> Setup:
    """Train the teacher, write the log of its answers, and prepare the data of all rows.

    With --unlabelled and a source without a test split, `arguments.data` becomes a divided copy.
    Raises SystemExit if training images would be among the test images.
    """
    whole = job(arguments, dataclasses.replace(NONE, sets={"data.limit": 0}), 0)
    if arguments.unlabelled and not any(item.split == "test" for item in whole.source.items()):
        divided = load(run(whole, store, "data", steps_to(console)), "data")
        arguments.data = str(log.parent / "divided")
        divide(Path(arguments.data), whole.source, divided)
    labelled = job(arguments, PLAIN_KD, arguments.seeds[0])
    dataset: Dataset = load(run(labelled, store, "data", steps_to(console)), "data")
    plain = job(arguments, NONE, 0)
    beside = unlabelled_settings(arguments, log.parent, plain, dataset)
    first = job(arguments, PLAIN_KD, arguments.seeds[0], beside)
    costs = Costs(arguments.out / "costs.json")
    done = run(first, store, "teacher", steps_to(console), costs.watch(stages_to(console)))
    teacher = load(done, "teacher")
    judges = load(run(_judged(arguments, first), store, "data", steps_to(console)), "data")
    if shared := contents(dataset, "train") & contents(judges, "test"):
        sys.exit(
            f"--judged {arguments.judged}: {len(shared)} training images would be test images; "
            "the data needs a test split of its own"
        )
    dtype = precision("auto", builders.restore(teacher))
    write_log(log, teacher, dataset, dtype)
    return Setup(
        dataset=dataset,
        judges=judges,
        beside=beside,
        teacher=figures(teacher, judges, dtype),
        train=len(datasets.rows(dataset, "train")),
        epochs=plain.recipe.distil.epochs,
    )


def _judged(arguments: argparse.Namespace, of: Job) -> Job:
    """A job with as many test images of a class as --judged says, and nothing else changed."""
    wider = recipe.changed(of.recipe, {"data.limit": arguments.judged, "data.unlabelled": ""})
    return dataclasses.replace(of, recipe=wider)


def unlabelled_settings(
    arguments: argparse.Namespace, folder: Path, plain: Job, dataset: Dataset
) -> dict[str, Toml]:
    """Write the unlabelled images. Returns the settings with which rows with a teacher see them.

    `plain`: the build without a teacher, whose number of steps these rows keep.
    """
    if not arguments.unlabelled:
        return {}
    folder /= f"unlabelled-{arguments.unlabelled}"
    leave_unlabelled(folder, plain.source, dataset, arguments.unlabelled)
    train = len(datasets.rows(dataset, "train"))
    epochs = max(1, round(plain.recipe.distil.epochs * train / (train + arguments.unlabelled)))
    return {
        "data.unlabelled": str(folder),
        "data.duplicates": "drop",
        "distil.epochs": epochs,
        "views.per_image": min(arguments.asked or plain.recipe.views.per_image, epochs),
    }


class Untrained(Exception):
    """Raised with --finished for a student that is not in the store."""


def _only_finished(_name: str, done: Done | None) -> None:
    """Stop before a stage runs."""
    if done is None:
        raise Untrained


class Students:
    """Trains and judges the students of a data set."""

    def __init__(
        self, arguments: argparse.Namespace, setup: Setup, store: Store, console: Console
    ) -> None:
        self.arguments, self.setup, self.store = arguments, setup, store
        self.steps = steps_to(console)
        self.costs = Costs(arguments.out / "costs.json")
        self.watch = self.costs.watch(_only_finished if arguments.finished else stages_to(console))

    def result(self, row: Row, seed: int) -> Result:
        """The figures of one student.

        Raises RecipeError for a method that is not defined for these classes or for this student,
        and Untrained.
        """
        wanted = job(self.arguments, row, seed, self.setup.beside)
        if row.peer:
            return self._of_script(wanted)
        until = "convert" if self.arguments.int8 else "distil"
        done = run(wanted, self.store, until, self.steps, self.watch)
        student = load(done, "distil")
        last = student.history[-1]
        asked = last["teacher_calls"] / last["views_shown"] if "teacher_calls" in last else None
        if self.arguments.int8:
            wider = run(_judged(self.arguments, wanted), self.store, "inputs", self.steps)
            found = int8_figures(load(done, "convert"), load(wider, "inputs"), self.setup.judges)
        else:
            found = figures(student, self.setup.judges)
        own = [name for name in ("pretrain", "distil") if name in done]
        seconds = math.fsum(self.costs.of(done[name].entry.key) for name in own)
        return _result(found, seconds, self.costs.answers(done), asked)

    def _of_script(self, wanted: Job) -> Result:
        """The figures of the bare script's student, which is kept beside the store."""
        if self.arguments.int8:
            raise RecipeError("the bare script makes no int8 file", "leave --int8 out")
        if wanted.recipe.views.mixup:
            raise RecipeError("the bare script mixes no images", "--set views.mixup=0")
        done = run(wanted, self.store, "knowledge", self.steps, self.watch)
        config = wanted.recipe.distil
        decides = [done["knowledge"].entry.key, wanted.student.name, config.epochs, config.seed]
        decides += [config.alpha, config.temperature, wanted.recipe.data.input_px]
        key = f"script-{sha256(canonical_json(decides))[:16]}"
        file = self.arguments.out / f"{key}.safetensors"
        dataset = load(done, "data")
        if not file.exists():
            if self.arguments.finished:
                raise Untrained
            self.costs.start()
            made = plain_kd.train(wanted, dataset, load(done, "knowledge"))
            self.costs.keep(key)
            file.write_bytes(made.state)
        student = plain_kd.kept(wanted, dataset, weight_files.read_weights(file))
        found = figures(student, self.setup.judges)
        return _result(found, self.costs.of(key), self.costs.answers(done), None)


def _result(
    found: Mapping[str, float], seconds: float, answers: float, asked: float | None
) -> Result:
    return Result(found["top1"], found.get("auc", math.nan), seconds, answers, asked)


def compare(
    arguments: argparse.Namespace, store: Store, console: Console, before: list[Block]
) -> tuple[Setup, list[Row], Block]:
    """Train and judge every student of one data set. Returns its setup, its rows and its figures.

    It goes seed by seed, so that the table of the first seed is complete early. `before`: the
    blocks of the data sets before it, for table.md.
    """
    folder = arguments.out / re.sub(r"[^A-Za-z0-9_.-]+", "_", Path(arguments.data).name)
    folder.mkdir(parents=True, exist_ok=True)
    log, named = folder / "teacher_log.csv", arguments.data
    known = [*compare_rows.methods(log, arguments.second_teacher), *compare_rows.of_presets()]
    order = compare_rows.chosen(known, arguments.rows, map(compare_rows.own, arguments.row))
    for row in sorted(order, key=lambda row: row.name == row.alone):  # the user's own rows first
        _known_settings(arguments, row)
    setup = set_up(arguments, log, store, console)
    students = Students(arguments, setup, store, console)
    results: Results = {}
    refused: dict[str, str] = {}
    block = Block(Path(named).name, setup.teacher.get(arguments.metric, math.nan), results, refused)
    for seed in arguments.seeds:
        for row in order:
            if row.name in refused:
                continue
            print(f"== {block.data}, {row.name}, seed {seed}", file=sys.stderr, flush=True)
            try:
                results.setdefault(row.name, {})[seed] = students.result(row, seed)
            except Untrained:
                continue
            except RecipeError as error:
                refused[row.name] = error.what
                continue
            text = table(order, [*before, block], arguments.metric) + "\n"
            (arguments.out / "table.md").write_text(text, encoding="utf-8")
    return setup, order, block


def _known_settings(arguments: argparse.Namespace, row: Row) -> None:
    """Raise SystemExit for a row with a setting that does not exist, before anything is trained.

    A method that is not defined for these classes is only refused in the table.
    """
    try:
        job(arguments, row, arguments.seeds[0])
    except RecipeError:
        pass
    except EdgeKDError as error:
        sys.exit(f"row {row.name}: {error.what}\n  next: {error.next_step}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    made.add_argument("--recipe", type=Path)
    made.add_argument("--data", action="append", help="may be repeated; default: fashion-mnist")
    made.add_argument("--profile", default="pi4")
    made.add_argument("--teacher", required=True, help="NAME or NAME@FILE")
    made.add_argument("--teacher-frozen", action="store_true")
    made.add_argument(
        "--second-teacher", default="", help="NAME or NAME@FILE; adds the row of two teachers"
    )
    made.add_argument("--student", default="mobilenetv2_050")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--judged", type=int, default=200, help="test images per class; 0: all")
    made.add_argument("--metric", choices=("top1", "auc"), default="top1")
    made.add_argument("--int8", action="store_true", help="judge the int8 file of each student")
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
    made.add_argument("--rows", nargs="+", help="only these rows; presets are rows, too")
    made.add_argument(
        "--row", action="append", default=[], help="NAME=SETTING,SETTING: a row of your own"
    )
    made.add_argument(
        "--finished", action="store_true", help="train nothing; print the finished rows"
    )
    made.add_argument("--set", action="append", default=[])
    made.add_argument("--out", type=Path, default=Path("builds/methods"))
    return made


def told(arguments: argparse.Namespace, setup: Setup) -> str:
    """A data set with its images and its teacher, in a sentence or two."""
    more = ""
    if setup.beside:
        more = (
            f"Rows with a teacher: {arguments.unlabelled} images more, without labels, "
            f"{setup.beside['distil.epochs']} epochs of all in place of {setup.epochs} of those "
            "with labels.\n"
        )
    return more + (
        f"{arguments.student} on {setup.dataset.name}, {len(setup.dataset.classes)} classes, "
        f"{setup.train} training and {len(datasets.rows(setup.judges, 'test'))} test images, "
        f"seeds {', '.join(map(str, arguments.seeds))}; "
        f"teacher {arguments.teacher.partition('@')[0]}: {setup.teacher['top1']:.1%} top-1, AUC "
        f"{setup.teacher.get('auc', float('nan')):.3f}"
    )


def main() -> None:
    arguments = parser().parse_args()
    store = Store(arguments.out, None)
    blocks: list[Block] = []
    with Console() as console, store.lock():
        for data in arguments.data or ["fashion-mnist"]:
            own = argparse.Namespace(**vars(arguments) | {"data": data})
            setup, order, block = compare(own, store, console, blocks)
            blocks.append(block)
            print(f"\n{told(own, setup)}")
    judged = "the int8 file" if arguments.int8 else "the float student"
    print(f"\nJudged: {judged}.\n\n{table(order, blocks, arguments.metric)}")
    for name, why in LEFT_OUT.items():
        print(f"\n`{name}` is no row here: {why}.")


if __name__ == "__main__":
    main()
