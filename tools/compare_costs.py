"""CPU seconds of students and of their teachers' answers, kept between runs of a comparison."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from edgekd.pipeline.jobs import Done

# Stages whose costs are a teacher's: its training or its head, and its answers.
ANSWERS = ("teacher", "knowledge")


class Costs:
    """CPU seconds of stages, by their keys.

    They are kept in a file, so that a run that continues later still knows them.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.started = file, 0.0
        self.known: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}

    def watch(self, then: Callable[[str, Done | None], None]) -> Callable[[str, Done | None], None]:
        """A callback for `on_stage` that measures every stage that runs, and calls `then`."""

        def stage(name: str, done: Done | None) -> None:
            if done is None:
                self.start()
            elif not done.cached:
                self.keep(done.entry.key)
            then(name, done)

        return stage

    def start(self) -> None:
        """Measure from now on."""
        self.started = time.process_time()

    def keep(self, key: str) -> None:
        """Keep what was used since `start`."""
        self.known[key] = time.process_time() - self.started
        self.file.write_text(json.dumps(self.known))

    def of(self, key: str) -> float:
        """CPU seconds of a student's training; NaN if another program trained it."""
        return self.known.get(key, math.nan)

    def answers(self, done: Mapping[str, Done]) -> float:
        """CPU seconds of the teachers and their answers; NaN if one of them is not known."""
        return math.fsum(
            self.of(one.entry.key) for name, one in done.items() if name.startswith(ANSWERS)
        )
