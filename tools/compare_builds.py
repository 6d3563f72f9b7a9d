"""Times the same build by two versions of EdgeKD, in turn.

    python tools/compare_builds.py OLD NEW --runs 3 -- --profile pi4 --data DIR --until qat

OLD and NEW are checkouts. Every run has an out folder of its own, so that nothing is taken from a
store. `--busy` keeps one core busy with another process meanwhile. Prints a Markdown table: seconds
of wall clock and of CPU time of each run, and the ratio of each pair.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class Took(NamedTuple):
    """What a build took, in seconds."""

    wall: float
    cpu: float


def build(checkout: Path, arguments: Sequence[str]) -> Took:
    """Run `edgekd build ARGUMENTS` from a checkout. Raises CalledProcessError when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edgekd", "build", *arguments, "--out", f"{folder}/out"]
        start = time.perf_counter()
        child = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        if code := os.waitstatus_to_exitcode(status):
            raise subprocess.CalledProcessError(code, command)
        return Took(wall, used.ru_utime + used.ru_stime)


@contextlib.contextmanager
def core_in_use(wanted: bool) -> Iterator[None]:
    """A context in which another process computes on the first core, where that is wanted."""
    if not wanted:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        os.sched_setaffinity(other.pid, {min(os.sched_getaffinity(0))})
        try:
            yield
        finally:
            other.kill()


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("build", nargs="+", help="arguments of `edgekd build`, after --")
    asked = parser.parse_args()
    print("| pair | old: wall s | CPU s | new: wall s | CPU s | old / new: wall | CPU |")
    print("|---|---|---|---|---|---|---|")
    with core_in_use(asked.busy):
        for number in range(asked.runs):
            old, new = build(asked.old, asked.build), build(asked.new, asked.build)
            print(
                f"| {number + 1} | {old.wall:.1f} | {old.cpu:.1f} | {new.wall:.1f} | {new.cpu:.1f}"
                f" | {old.wall / new.wall:.2f} | {old.cpu / new.cpu:.2f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
