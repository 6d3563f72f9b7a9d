"""Compares a student with a teacher against the same student without one, over paired seeds.

    python tools/compare_teaching.py --data DIR --teacher NAME@FILE --seeds 0 1 2

Each run is a whole build down to the certified int8 file. The seed is the student's: it decides the
first weights and the order of the images. Split, teacher and views come from the recipe's own seed,
so that they are the same in every run. All builds share one store, and a run that was stopped
continues where it was. Prints a Markdown table with the mean and the value of each seed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from edgekd.app import build as building
from edgekd.app.console import Console
from edgekd.core.records import present
from edgekd.evaluation.accuracy_record import Accuracy
from edgekd.settings import recipe


def build(arguments: argparse.Namespace, teacher: str, seed: int) -> Accuracy:
    """Build one student, and return its accuracy after each stage."""
    name, _, weights = teacher.partition("@")
    student, _, student_weights = arguments.student.partition("@")
    overrides = {
        "data.source": arguments.data,
        "teacher.name": name,
        "teacher.weights": weights,
        "teacher.mode": "frozen" if arguments.teacher_frozen else "finetune",
        "distil.student": student,
        "distil.weights": student_weights,
        "distil.seed": seed,
    }
    job = building.job(recipe.load(arguments.recipe, arguments.set, overrides), arguments.profile)
    out = arguments.out / f"{student}-{name}-{seed}"
    print(f"== {out}", file=sys.stderr, flush=True)
    with Console() as console:
        report = building.build(job, out, arguments.out / "store", None, console)
    for sentence in present(report.gates) or []:
        print(f"{out}: {sentence}", file=sys.stderr)
    accuracy = present(report.accuracy)
    assert accuracy is not None  # a whole build has it
    return accuracy


def row(name: str, runs: Sequence[Accuracy], stage: str) -> str:
    """One line of the table: AUC and top-1 after a stage, as the mean and each seed's value."""
    stages = [next(each for each in run.waterfall if each.stage == stage) for run in runs]
    cells = [name, stage]
    # auc is NaN where a class has no test image.
    areas = [math.nan if each.auc is None else each.auc for each in stages]
    for values in (areas, [each.top1 for each in stages]):
        spread = f" ({', '.join(f'{value:.3f}' for value in values)})" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.3f}{spread}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--profile", default="pi4")
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--teacher-frozen", action="store_true")
    parser.add_argument("--student", default="mobilenetv2_050")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path, default=Path("builds/compare"))
    arguments = parser.parse_args()
    taught = [build(arguments, arguments.teacher, seed) for seed in arguments.seeds]
    alone = [build(arguments, "none", seed) for seed in arguments.seeds]
    print(f"\n{arguments.student}, {len(arguments.seeds)} seeds, {taught[0].n} test images\n")
    print("| | stage | AUC | top-1 |\n|---|---|---|---|")
    print(row("teacher", taught, "teacher"))
    for name, runs in (("taught", taught), ("alone", alone)):
        for stage in ("student", "qat", "tflite"):
            print(row(name, runs, stage))


if __name__ == "__main__":
    main()
