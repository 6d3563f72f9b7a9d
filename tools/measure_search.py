"""A search against five students that are built one by one in the same total time.

    python tools/measure_search.py --data chest-xray/ --minutes 60 --teacher ... --out DIR

First `edgekd search` with a budget. Then five students, in the order in which somebody would try
them by hand, each with `edgekd build --minutes` and an equal part of the time that the search was
given; they share one store, so that what is learned about the teacher once is not asked again. The
best of each side is chosen by its float score on the validation images, as the search chooses;
printed is the AUC (and top-1) of its int8 file on the test images. `--only` runs one side.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

# Small students of models/ that fit 5 ms on a Raspberry Pi 4 at 96 px or less. At larger sizes
# some fit, too, and have time for a third of the epochs.
STUDENTS = (
    "mobilenetv2_050",
    "mobilenetv3_small_050",
    "mobilenetv2_035",
    "mobilenetv4_conv_small_050",
    "mnasnet_small",
)
SIZES = (96, 64)


@dataclasses.dataclass(frozen=True)
class Built:
    """A whole build: its score on the validation images, and its int8 file on the test images."""

    name: str
    val: float
    auc: float | None
    top1: float
    seconds: float


def main() -> None:
    """Search, build five students, and print both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--teacher", default="none")
    parser.add_argument("--teacher-frozen", action="store_true")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--max-latency", default="5ms")
    parser.add_argument("--max-drop", type=float, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--only", choices=("search", "builds"))
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.only != "builds":
        searched(asked)
    if asked.only != "search":
        one_by_one(asked)


def searched(asked: argparse.Namespace) -> None:
    """Search, and print what was found."""
    start = time.monotonic()
    code = run(
        asked.out / "search.log",
        *("search", *common(asked), "--max-latency", asked.max_latency),
        *(("--max-drop", f"{asked.max_drop:g}") if asked.max_drop is not None else ()),
        *("--budget", f"{asked.minutes:g}m", "--out", str(asked.out / "search")),
    )
    took = time.monotonic() - start
    found = json.loads((asked.out / "search" / "search.json").read_text())
    print(f"search: exit code {code} after {took / 60:.1f} of {asked.minutes:g} minutes")
    print(f"  {found['considered']} candidates, {found['dropped']['candidates']} dropped")
    for row in found["rungs"]:
        print(f"  rung {row['rung'] + 1}: {row['epochs']} epochs")
    for row in found["finalists"]:
        print(
            f"  built {row['candidate']}: AUC {row['auc']}, top-1 {row['top1']}, "
            f"{row['drop_points']} points below the teacher, certified {row['certified']}"
        )
    chosen = found["recommended"]
    print(f"  recommended: {chosen and chosen['candidate']}")
    print(f"  first rung against last: {found.get('rank_correlation')}")


def common(asked: argparse.Namespace) -> list[str]:
    """The arguments that both sides share."""
    words = ["--profile", "pi4", "--data", asked.data, "--teacher", asked.teacher]
    words += ["--teacher-frozen"] if asked.teacher_frozen else []
    words += ["--seed", str(asked.seed)]
    return words + [word for text in asked.settings for word in ("--set", text)]


def one_by_one(asked: argparse.Namespace) -> None:
    """Build the five students, each in a fifth of the time, and print the best by validation."""
    builds, start = [], time.monotonic()
    for number, student in enumerate(STUDENTS):
        out, px = asked.out / student, largest(student, asked.max_latency)
        left = asked.minutes - (time.monotonic() - start) / 60
        minutes = left / (len(STUDENTS) - number)
        began = time.monotonic()
        code = run(
            out.with_suffix(".log"),
            *("build", *common(asked), "--student", student, "--minutes", f"{minutes:.1f}"),
            *("--set", f"data.input_px={px}"),
            *("--out", str(out), "--store", str(asked.out / "store")),
        )
        seconds = time.monotonic() - began
        report = json.loads((out / "report.json").read_text()) if code in (0, 1) else {}
        if "accuracy" not in report:
            print(f"  {student} at {px} px, {minutes:.1f} min: exit code {code}", flush=True)
            continue
        rows = {row["stage"]: row for row in report["accuracy"]["waterfall"]}
        history = report["training"]["distil"]
        built = Built(
            f"{student} at {px} px, {len(history)} epochs",
            history[-1].get("auc", history[-1]["top1"]),
            rows["tflite"]["auc"],
            rows["tflite"]["top1"],
            seconds,
        )
        builds.append(built)
        print(f"  {built.name}: val {built.val:.4f}, {seconds / 60:.1f} of {minutes:.1f} min, "
              f"exit code {code}, AUC {built.auc}, top-1 {built.top1}", flush=True)  # fmt: skip
    print(f"one by one: {(time.monotonic() - start) / 60:.1f} minutes")
    if builds:
        best = max(builds, key=lambda each: each.val)
        print(f"  best on validation: {best.name}: AUC {best.auc}, top-1 {best.top1}")


def largest(student: str, limit: str) -> int:
    """The largest size whose predicted latency keeps the limit, the smallest where none does."""
    allowed = float(limit.removesuffix("ms"))
    for px in SIZES:
        words = ("check", student, "--profile", "pi4", "--set", f"data.input_px={px}", "--json")
        answer = subprocess.run(
            [sys.executable, "-m", "edgekd", *words], capture_output=True, check=False
        )
        if json.loads(answer.stdout)["predicted"]["latency_ms"] <= allowed:
            return px
    return SIZES[-1]


def run(log: Path, *words: str) -> int:
    """Run one command of edgekd. Returns its exit code."""
    print(f"edgekd {shlex.join(words)}", flush=True)
    with log.open("ab") as file:
        return subprocess.call([sys.executable, "-m", "edgekd", *words], stdout=file, stderr=file)


if __name__ == "__main__":
    main()
