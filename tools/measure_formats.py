"""Measures every number format of finished builds: accuracy, size and time in one Markdown table.

    python -m tools.measure_formats builds/a builds/b [--rounds 60]

Each folder is the out folder of a build with `--formats float16,float32,dynamic,int16x8`. Accuracy
and agreement are those of its report.json, where LiteRT answered the test images. The time is taken
here: LiteRT runs each file on one thread, in rounds that call every file of a build once, in a new
order each round. Half of the rounds run with the files loaded in reverse order, since the file that
is loaded first is a little slower. The figure is the 10 % quantile of the thread's own processor
time, so that other work on the machine counts as little as possible.
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import time
from pathlib import Path

import numpy as np

from edgekd.core.number_formats import NumberFormat
from edgekd.core.records import present
from edgekd.evaluation.accuracy_record import FormatRow
from edgekd.reporting.out_folder import read_report
from edgekd.reporting.report_record import Report
from edgekd.tflite.runtime import LiteRunner, load_runtime

QUICK = 0.1  # the quantile of the times
WARMUP = 3  # calls of each file before the timed ones; an int16 file takes up to a second
HEAD = (
    "| network | format | top-1 | AUC | answers as float | KiB | ms | ms / int8 |\n"
    "|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="OUT")
    parser.add_argument("--rounds", type=int, default=60, help="default: %(default)s")
    asked = parser.parse_args()
    runtime = load_runtime()[0]
    print(f"{dt.date.today()}, {platform.machine()}, {runtime}, one thread\n\n{HEAD}")  # noqa: DTZ011
    for folder in asked.folders:
        for line in table(folder, asked.rounds):
            print(line, flush=True)


def table(folder: Path, rounds: int) -> list[str]:
    """The rows of one build. Raises SystemExit when it was built without formats."""
    report = read_report(folder)
    accuracy = present(report.accuracy)
    rows = None if accuracy is None else present(accuracy.formats)
    if not rows:
        raise SystemExit(
            f"{folder}: no formats beside int8; build it with --formats "
            f"{','.join(one for one in NumberFormat if one is not NumberFormat.INT8)}"
        )
    times = latencies({row.path: (folder / row.path).read_bytes() for row in rows}, rounds)
    name = network(report)
    return [line(name, row, times) for row in rows]


def network(report: Report) -> str:
    """The float student, with its input's side."""
    block = report.models["student"]
    return f"{block.name}, {block.input[0]} px"


def line(name: str, row: FormatRow, times: dict[str, np.ndarray]) -> str:
    """One row."""
    low, high = row.top1_ci95
    same_low, same_high = row.agree_ci95
    taken, int8 = (np.quantile(times[path], QUICK) for path in (row.path, "model.tflite"))
    auc = "–" if row.auc is None else f"{row.auc:.4f}"
    agree = f"{row.agree_with_float:.1%} ({same_low:.1%} to {same_high:.1%})"
    if row.format is NumberFormat.INT16X8:
        agree += f", {row.n} images"
    return (
        f"| {name} | {row.format} | {row.top1:.1%} ({low:.1%} to {high:.1%}) | {auc} | {agree} | "
        f"{row.bytes / 1024:,.0f} | {taken:.2f} | {taken / int8:.1f} |"
    )


def latencies(files: dict[str, bytes], rounds: int) -> dict[str, np.ndarray]:
    """The milliseconds of each file in each round, float64 [rounds]."""
    random = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in files}
    names = list(files)
    for order in (names, names[::-1]):
        runners = {name: loaded(files[name]) for name in order}
        for _ in range(rounds // 2):
            for name in random.permutation(order):
                start = time.thread_time_ns()
                runners[name].interpreter.invoke()
                times[name].append((time.thread_time_ns() - start) / 1e6)
    return {name: np.array(values) for name, values in times.items()}


def loaded(data: bytes) -> LiteRunner:
    """The file with random pixels at its input, called a few times."""
    runner = LiteRunner(data)
    random = np.random.default_rng(0)
    shape, dtype = runner.input.shape, runner.input.dtype
    value = random.random(shape, np.float32)
    if dtype != "FLOAT32":
        value = random.integers(-100, 100, shape).astype(dtype.lower())
    for _ in range(WARMUP):
        runner.invoke(value)
    return runner


if __name__ == "__main__":
    main()
