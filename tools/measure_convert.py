"""Measures the time and the memory of each stage of `edgekd convert`.

    python tools/measure_convert.py --out builds/timed MODEL.onnx --data DIR [--profile pi4]

Prints a Markdown table: wall-clock seconds, CPU seconds of this process and its children (in
programs and in the system), and the most memory that the process held. The out folder must not
exist, so that every stage runs. On a machine with other work only the CPU seconds mean something;
OMP_NUM_THREADS says how many threads compute. Linux only.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): sets the peak of the resident memory back to its present value


@dataclass(frozen=True)
class Usage:
    """What the process has used since it started. Seconds, and `faults` in pages."""

    wall: float
    user: float
    system: float
    faults: int

    @classmethod
    def now(cls) -> Usage:
        found = [
            resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        ]
        return cls(
            time.clock_gettime(time.CLOCK_BOOTTIME) - STARTED,
            sum(part.ru_utime for part in found),
            sum(part.ru_stime for part in found),
            sum(part.ru_minflt for part in found),
        )


def _started() -> float:
    """When this process started, on the clock CLOCK_BOOTTIME."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


STARTED = _started()


def peak() -> float:
    """The most memory in GiB since the last call."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            CLEAR.write_text(RESET_PEAK, encoding="ascii")
            return float(line.split()[1]) / 2**20
    raise OSError("/proc/self/status has no VmHWM")


class Watch:
    """A Progress that keeps a row for each part of the command."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Usage, Usage, float]] = []
        self.before = Usage(0.0, 0.0, 0.0, 0)

    def __call__(self, update: object) -> None:
        from edgekd.app.progress import StageFinished, StageStarted

        if isinstance(update, StageStarted):
            self.end("between stages" if self.rows else "imports, reading and checking the network")
        elif isinstance(update, StageFinished):
            self.end(update.stage)

    def end(self, part: str) -> None:
        """A part of the command is done."""
        now = Usage.now()
        self.rows.append((part, self.before, now, peak()))
        self.before = now

    def table(self) -> str:
        """The rows as a Markdown table."""
        whole = ("all", Usage(0.0, 0.0, 0.0, 0), self.before, max(row[3] for row in self.rows))
        head = "| stage | seconds | CPU s | of it system | pages mapped | peak, GiB |"
        told = [head, "|---" * 6 + "|"]
        for part, start, end, most in (*self.rows, whole):
            if part == "between stages" and end.wall - start.wall < 0.1:
                continue
            user, system = end.user - start.user, end.system - start.system
            told.append(
                f"| {part} | {end.wall - start.wall:.1f} | {user + system:.1f} | {system:.1f} | "
                f"{(end.faults - start.faults) / 1e6:.2f} M | {most:.2f} |"
            )
        return "\n".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--profile", default="pi4")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--until", default="certify")
    parser.add_argument("--formats")
    parser.add_argument("--set", action="append", default=[])
    asked = parser.parse_args()
    if asked.out.exists():
        sys.exit(f"{asked.out} exists; name a new folder, so that every stage runs")
    from edgekd.core import cores

    cores.one_thread_for_numpy()  # as the command line does
    from edgekd.app import convert
    from edgekd.app.arguments import Convert

    watch = Watch()
    convert.run(
        Convert(
            asked.model,
            profile=asked.profile,
            data=asked.data,
            out=asked.out,
            until=None if asked.until == "all" else asked.until,
            formats=asked.formats,
            settings=asked.set,
            progress=watch,
        )
    )
    watch.end("report and files")
    print(watch.table())


if __name__ == "__main__":
    main()
