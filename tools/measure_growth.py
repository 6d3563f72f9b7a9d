"""Measures how the cost of a build grows with the number of images, their size and the classes.

    python -m tools.measure_growth [--out builds/growth]

Each row is one build on synthetic images, in a process of its own and on one core. One quantity at
a time grows from the base. CPU seconds are the user and system time of the process. Other work on
the machine changes them less than wall-clock time. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekd.data.sources import Source
    from edgekd.pipeline.jobs import Done, Job

STAGES = ("data", "teacher", "knowledge", "distil", "qat")
EPOCHS = 1
NATIVE = 96  # side of every generated image in pixels, so that all builds decode the same images


@dataclasses.dataclass(frozen=True)
class Size:
    """What one build works on. `px`: the side of the network's input in pixels."""

    images: int = 500
    px: int = 32
    classes: int = 2

    def values(self, between: str) -> str:
        """The three numbers, with `between` between them."""
        return between.join(map(str, dataclasses.astuple(self)))


SIZES = (
    Size(),
    *(Size(images=count) for count in (1000, 2000)),
    *(Size(px=px) for px in (64, 96)),
    *(Size(classes=classes) for classes in (4, 8)),
)


class Costs:
    """CPU seconds and peak memory of each stage, of this process.

    `found`: {stage: (CPU seconds, peak MiB up to the end of the stage)}.
    """

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, float]] = {}
        self.last = 0.0

    def on_stage(self, name: str, done: Done | None) -> None:
        """Called when a stage starts (`done` is None) and when it ends."""
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        now = usage.ru_utime + usage.ru_stime
        if done is not None:
            self.found[name] = (now - self.last, usage.ru_maxrss / 1024)
        self.last = now


def patterns(size: Size) -> Source:
    """A source of grey noise images with a wave whose frequency is the class."""
    import numpy as np

    from edgekd.data.sources import Item, SourceFacts

    class Patterns:
        name, labels = f"patterns:{size.images}:{size.classes}", None
        facts = SourceFacts(licence="generated", source="waves in noise", synthetic=True)

        def items(self) -> list[Item]:
            return [
                Item(f"{number:06d}", f"class {number % size.classes}")
                for number in range(size.images)
            ]

        def load(self, item: Item) -> np.ndarray:
            number = int(item.name)
            frequency = 1 + number % size.classes
            wave = np.sin(np.arange(NATIVE) / NATIVE * np.pi * 2 * frequency)
            noise = np.random.default_rng(number).normal(0, 20, (NATIVE, NATIVE))
            return np.clip(128 + 60 * wave + noise, 0, 255).astype(np.uint8)

        def native_px(self) -> int:
            return NATIVE

        def fingerprint(self) -> str:
            return self.name

    return Patterns()


def job_of(size: Size) -> Job:
    """The build of this size."""
    from edgekd.pipeline.jobs import Job
    from edgekd.settings import device_profiles, recipe

    sets = [
        f"data.input_px={size.px}",
        f"teacher.epochs={EPOCHS}",
        f"distil.epochs={EPOCHS}",
        f"qat.epochs={EPOCHS}",
        "views.per_image=1",
        "teacher.name=resnet18",
        "teacher.weights=none",
        "distil.student=mobilenetv2_050",
    ]
    return Job(recipe.load(None, sets), device_profiles.load_profile("pi4"), patterns(size))


def build(size: Size, out: Path) -> None:
    """Run one build in this process, and print its costs as JSON."""
    from edgekd.core.store import Store
    from edgekd.pipeline.runner import run

    # Import torch before the first stage, whose time would include the import otherwise.
    from edgekd.pipeline.stages import distil, knowledge, qat, teacher  # noqa: F401

    costs = Costs()
    run(job_of(size), Store(out, None), "qat", on_stage=costs.on_stage)
    print(json.dumps(costs.found))


def measured(size: Size, folder: Path) -> dict[str, tuple[float, float]]:
    """The costs of one build: from its file below `folder`, or from a new process."""
    name = size.values("-")
    kept = folder / f"{name}.json"
    if not kept.exists():
        command = [sys.executable, "-m", "tools.measure_growth"]
        command += ["--one", size.values(","), "--out", str(folder / name)]
        done = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        kept.write_text(done.stdout.splitlines()[-1])
    return {stage: tuple(costs) for stage, costs in json.loads(kept.read_text()).items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("builds/growth"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        build(Size(*map(int, arguments.one.split(","))), arguments.out)
        return 0
    stages = " | ".join(f"{stage}, s" for stage in STAGES)
    print(f"| images | px | classes | {stages} | all, s | peak, MiB |")
    print(f"|---|---|---|{'---|' * (len(STAGES) + 2)}", flush=True)
    for size in SIZES:
        found = measured(size, arguments.out)
        seconds = [found[stage][0] for stage in STAGES]
        cells = " | ".join(f"{each:.1f}" for each in (*seconds, sum(seconds)))
        peak = max(peak for _, peak in found.values())
        print(f"| {size.values(' | ')} | {cells} | {peak:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
