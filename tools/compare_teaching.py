"""What a teacher gives: the same student with and without it, in equal budgets, over paired seeds.

    python tools/compare_teaching.py --data DIR --teacher NAME@FILE --student mobilenetv2_050 --seeds 0 1 2

Every row is a whole build down to the certified int8 file. A seed is the student's: its first weights and the order of
its images. Split, teacher and views are those of the recipe's own seed, the same in every row. Builds share one store,
so the script resumes where it was stopped. Prints a Markdown table with the mean and each seed's value.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from edgekd.app import build as building
from edgekd.app.console import Console
from edgekd.core.records import present, to_json
from edgekd.settings import recipe


def build(arguments: argparse.Namespace, teacher: str, seed: int) -> dict[str, Any]:
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
    return to_json(report)


def row(name: str, bodies: list[dict[str, Any]], stage: str) -> str:
    cells = [name, stage]
    for figure in ("auc", "top1"):
        values = [
            next(r[figure] for r in body["accuracy"]["waterfall"] if r["stage"] == stage)
            for body in bodies
        ]
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
    print(
        f"\n{arguments.student}, {len(arguments.seeds)} seeds, {taught[0]['accuracy']['n']} test images\n"
    )
    print("| | stage | AUC | top-1 |\n|---|---|---|---|")
    print(row("teacher", taught, "teacher"))
    for name, bodies in (("taught", taught), ("alone", alone)):
        for stage in ("student", "qat", "tflite"):
            print(row(name, bodies, stage))


if __name__ == "__main__":
    main()
