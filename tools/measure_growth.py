"""What a build costs as work grows: CPU seconds and peak memory of each stage, over images, pixels and classes.

    python -m tools.measure_growth [--out builds/growth]

Each row is one build on synthetic images, in a process of its own and on one core, with one thing grown at a time from the
base. CPU seconds are user and system time of the process; they do not depend on what else runs, as wall time does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

BASE = {"images": 500, "px": 32, "classes": 2}
GROWN = [
    BASE,
    *({**BASE, "images": count} for count in (1000, 2000)),
    *({**BASE, "px": px} for px in (64, 96)),
    *({**BASE, "classes": classes} for classes in (4, 8)),
]
STAGES = ("data", "teacher", "knowledge", "distil", "qat")
EPOCHS = 1
NATIVE = 96  # the images' own side; every build decodes the same ones


def build(images: int, px: int, classes: int, out: Path) -> None:
    """One build in this process; prints {"stage": [CPU seconds, peak MiB so far]} as JSON."""
    import resource

    import numpy as np

    from edgekd.app import build as building
    from edgekd.core.store import Store
    from edgekd.data.sources import Item, SourceFacts
    from edgekd.pipeline.jobs import Done
    from edgekd.pipeline.runner import run
    from edgekd.pipeline.stages import distil, knowledge, qat, teacher  # noqa: F401 - importing torch is no stage's work
    from edgekd.settings import recipe

    class Patterns:
        """Grey noise with a wave whose frequency is the class."""

        name, labels = f"patterns:{images}:{classes}", None
        facts = SourceFacts(licence="generated", source="waves in noise", synthetic=True)

        def items(self) -> list[Item]:
            return [Item(f"{number:06d}", f"class {number % classes}") for number in range(images)]

        def load(self, item: Item) -> np.ndarray:
            number = int(item.name)
            wave = np.sin(np.arange(NATIVE) / NATIVE * np.pi * 2 * (1 + number % classes))
            noise = np.random.default_rng(number).normal(0, 20, (NATIVE, NATIVE))
            return np.clip(128 + 60 * wave + noise, 0, 255).astype(np.uint8)

        def native_px(self) -> int:
            return NATIVE

        def fingerprint(self) -> str:
            return self.name

    settings = recipe.load(
        None,
        [
            f"data.input_px={px}",
            f"teacher.epochs={EPOCHS}",
            f"distil.epochs={EPOCHS}",
            f"qat.epochs={EPOCHS}",
            "views.per_image=1",
            "teacher.name=resnet18",
            "teacher.weights=none",
            "distil.student=mobilenetv2_050",
        ],
    )
    job = building.Job(settings, building.devices.load_profile("pi4"), Patterns())
    found: dict[str, list[float]] = {}
    last = 0.0

    def told(name: str, done: Done | None) -> None:
        nonlocal last
        usage = resource.getrusage(resource.RUSAGE_SELF)
        now = usage.ru_utime + usage.ru_stime
        if done is not None:
            found[name] = [now - last, usage.ru_maxrss / 1024]
        last = now

    run(job, Store(out, None), "qat", on_stage=told)
    print(json.dumps(found))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("builds/growth"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        build(*map(int, arguments.one.split(",")), arguments.out)
        return 0
    print(
        f"| images | px | classes | {' | '.join(f'{stage}, s' for stage in STAGES)} | all, s | peak, MiB |"
    )
    print(f"|---|---|---|{'---|' * (len(STAGES) + 2)}", flush=True)
    for row in GROWN:
        text = ",".join(map(str, row.values()))
        out, kept = (
            arguments.out / text.replace(",", "-"),
            arguments.out / f"{text.replace(',', '-')}.json",
        )
        if not kept.exists():
            done = subprocess.run(
                [sys.executable, "-m", "tools.measure_growth", "--one", text, "--out", str(out)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            kept.write_text(done.stdout.splitlines()[-1])
        found = json.loads(kept.read_text())
        seconds = [found[stage][0] for stage in STAGES]
        print(
            f"| {' | '.join(map(str, row.values()))} | {' | '.join(f'{s:.1f}' for s in (*seconds, sum(seconds)))} | "
            f"{max(peak for _, peak in found.values()):.0f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
