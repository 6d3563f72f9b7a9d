"""Measures the peak memory and the time of each stage of a build with many images.

    python -m tools.measure_memory --images 20000 [--out builds/memory-20000]

The images are drawn: one of 600 synthetic radiographs each, shifted and with noise of its own, so
that a set is drawn in a minute. `--source phantom` draws every radiograph from scratch, which takes
12 ms of CPU time each. Everything else is a build as any other, with one epoch of each training.

Memory is read from /proc four times a second. "own" is memory that only this process can free
(RssAnon); "whole" adds the pages of files that happen to be mapped, libraries included (VmRSS).
Prints a Markdown table. Linux only.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.core.store import Store
from edgekd.data.phantom_source import PhantomSource
from edgekd.data.sources import Item
from edgekd.pipeline.jobs import Done, Job
from edgekd.pipeline.runner import run
from edgekd.settings import device_profiles, recipe

# A multiple of twelve, after which the classes of the phantom repeat.
BODIES = 600
PX = 96
SETTINGS = (
    "teacher.epochs=1",
    "teacher.px=32",
    "distil.epochs=1",
    "distil.weights=none",
    "qat.epochs=0",
    "views.per_image=4",
)
EVERY = 0.25  # seconds between two looks at the memory


class DrawnSource(PhantomSource):
    """Radiographs that are made of BODIES others by a shift and noise."""

    def __init__(self, count: int) -> None:
        super().__init__(count, PX)
        bodies = PhantomSource(BODIES * 4, PX)
        self.bodies = [bodies.load(item) for item in bodies.items()[:BODIES]]
        self.name = f"drawn:{count}"

    def load(self, item: Item) -> NDArray[np.uint8]:
        """One image, uint8 [px, px]."""
        index = self._index[item.name]
        rng = np.random.default_rng(index)
        noise = rng.integers(-8, 9, (PX, PX), np.int16)
        moved = np.roll(self.bodies[index % BODIES], rng.integers(-4, 5, 2), (0, 1))
        return np.clip(moved + noise, 0, 255).astype(np.uint8)


class Watch:
    """Seconds and peak memory in MiB of each stage, as a build's `on_stage`."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, float]] = {}
        self._peak = {"own": 0.0, "whole": 0.0}
        self._start = (0.0, 0.0)
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        fields = {"RssAnon": "own", "VmRSS": "whole"}
        while True:
            for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
                name, _, value = line.partition(":")
                if name in fields:
                    peak = float(value.split()[0]) / 1024
                    self._peak[fields[name]] = max(self._peak[fields[name]], peak)
            time.sleep(EVERY)

    def __call__(self, stage: str, done: Done | None) -> None:
        """A stage starts, or is done."""
        if done is None:
            self._peak = {"own": 0.0, "whole": 0.0}
            self._start = time.perf_counter(), time.process_time()
            return
        now = time.perf_counter(), time.process_time()
        self.rows[stage] = {
            "seconds": now[0] - self._start[0],
            "cpu": now[1] - self._start[1],
            **self._peak,
        }
        print(stage, json.dumps(self.rows[stage]), flush=True)


def table(rows: dict[str, dict[str, float]]) -> str:
    """The figures as a Markdown table."""
    lines = ["| stage | seconds | CPU seconds | own, MiB | whole, MiB |", "|---|---|---|---|---|"]
    for stage, row in rows.items():
        figures = " | ".join(f"{row[name]:.0f}" for name in ("seconds", "cpu", "own", "whole"))
        lines.append(f"| {stage} | {figures} |")
    total = sum(row["seconds"] for row in rows.values()), sum(row["cpu"] for row in rows.values())
    most = (max(row[name] for row in rows.values()) for name in ("own", "whole"))
    lines.append("| all | " + " | ".join(f"{value:.0f}" for value in (*total, *most)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run one build and print its table."""
    parser = argparse.ArgumentParser(description="Peak memory and time of each stage of a build.")
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--source", choices=("drawn", "phantom"), default="drawn")
    parser.add_argument("--teacher", default="test_resnet")
    parser.add_argument("--student", default="mobilenetv3_small_050")
    parser.add_argument("--profile", default="pi4")
    parser.add_argument("--until")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    named = {"teacher.name": arguments.teacher, "distil.student": arguments.student}
    settings = recipe.load(None, (*SETTINGS, *arguments.set), named)
    profile = device_profiles.load_profile(arguments.profile)
    drawn = arguments.source == "drawn"
    source = DrawnSource(arguments.images) if drawn else PhantomSource(arguments.images, PX)
    out = arguments.out or Path("builds") / f"memory-{arguments.images}"
    watch = Watch()

    def progress(what: str, done: int, total: int, **figures: float) -> None:
        del figures
        if time.perf_counter() - progress.said > 20:  # type: ignore[attr-defined]
            progress.said = time.perf_counter()  # type: ignore[attr-defined]
            print(f"  {what}: {done} of {total}", flush=True)

    progress.said = 0.0  # type: ignore[attr-defined]
    run(Job(settings, profile, source), Store(out), arguments.until, progress, watch)
    print(f"\n{arguments.images} {arguments.source} images of {PX} px\n\n{table(watch.rows)}")


if __name__ == "__main__":
    main()
