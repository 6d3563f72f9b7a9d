"""Measures how long the commands take, and the peak memory of a build.

    python tools/time_commands.py --out builds/timed -- --profile pi4 --data phantom:1600

Everything after `--` goes to `edgekd build`. Measures `edgekd --help`, a build from nothing, and
the same build again. The out folder must not exist, so that the first build starts from nothing.
Prints Markdown tables of wall-clock seconds, which include the effect of other work on the machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

EDGEKD = [sys.executable, "-m", "edgekd"]
REPEATS = 10  # of the short command, so that its spread can be shown


def seconds(command: list[str]) -> float:
    """Run a command, and return its wall-clock seconds. Raises SystemExit when it fails."""
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    if done.returncode not in (0, 1):  # 1: a gate failed, and the build took as long
        sys.exit(f"{' '.join(command)} ended with exit code {done.returncode}")
    return time.perf_counter() - start


def spread(values: list[float]) -> str:
    """Median, lowest and highest of some seconds."""
    median, low, high = statistics.median(values), min(values), max(values)
    return f"{median:.2f} s ({low:.2f} to {high:.2f}, {len(values)} runs)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("build", nargs="*", help="arguments of edgekd build")
    arguments = parser.parse_args()
    if arguments.out.exists():
        sys.exit(
            f"{arguments.out} exists; name a new folder, so that the build starts from nothing"
        )
    build = [*EDGEKD, "build", *arguments.build, "--out", str(arguments.out)]
    first = seconds(build)
    # ru_maxrss is in KiB on Linux.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    again = [seconds(build) for _ in range(3)]
    usage = [seconds([*EDGEKD, "--help"]) for _ in range(REPEATS)]
    stages = json.loads((arguments.out / "report.json").read_text(encoding="utf-8"))["stages"]
    print("| command | time |\n|---|---|")
    print(f"| `edgekd --help` | {spread(usage)} |")
    print(f"| `edgekd build` from nothing | {first:.0f} s, peak {peak:.1f} GiB |")
    print(f"| the same again, all cached | {spread(again)} |")
    print("\n| stage | seconds |\n|---|---|")
    for stage in stages:
        print(f"| {stage['stage']} | {stage['seconds']:.1f} |")


if __name__ == "__main__":
    main()
