"""Progress without a terminal: lines at a steady pace, and a log of JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekd.app import event_log
from edgekd.app.cli import main
from edgekd.app.progress import Advanced, Note, StageFinished, StageStarted, Update
from edgekd.app.progress_pace import Pace, line


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def at(clock: Clock, pace: Pace, seconds: float, done: int, task: str = "distil") -> bool:
    clock.now = seconds
    return pace.due(Advanced(task, done, 100, {"loss": 0.5}))


def test_a_line_is_due_every_30_seconds() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    due = [at(clock, pace, second, second) for second in range(1, 100)]
    assert [second for second, told in enumerate(due, 1) if told] == [31, 61, 91]


def test_a_new_task_starts_a_new_rate() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    at(clock, pace, 0, 0)
    at(clock, pace, 10, 50)
    assert pace.rate == 5
    assert pace.seconds_left(Advanced("distil", 50, 100, {})) == 10
    at(clock, pace, 20, 0, "qat")
    assert pace.seconds_left(Advanced("qat", 0, 100, {})) is None


def test_resumed_work_does_not_count_as_speed() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    at(clock, pace, 5, 80)  # 80 were done by an earlier run
    at(clock, pace, 15, 90)
    assert pace.rate == 1


def test_a_line_says_what_is_left() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    at(clock, pace, 0, 0)
    at(clock, pace, 100, 1)
    update = Advanced("distil", 1, 100, {"loss": 0.5})
    assert line(update, pace) == "distil: 1 of 100, loss 0.5, 0.01/s, 2:45:00 left"


def test_the_log_keeps_every_event_and_passes_it_on(tmp_path: Path) -> None:
    seen: list[Update] = []
    updates: list[Update] = [
        StageStarted("distil"),
        Advanced("distil", 1, 2, {"loss": 0.7}),  # less than a second after the stage's start
        Advanced("distil", 2, 2, {"loss": 0.6}),  # the last one is always kept
        StageFinished("distil", 1.5, cached=False, digest="ab"),
        Note("two\nlines"),
    ]
    file = tmp_path / "log.jsonl"
    for _ in range(2):  # the second run appends
        with event_log.kept(file, seen.append) as log:
            for update in updates:
                log(update)
    assert seen == updates * 2
    found = [json.loads(text) for text in file.read_text().splitlines()]
    assert len(found) == 8
    kinds = [event.pop("event") for event in found[:4]]
    assert kinds == ["stage started", "progress", "stage finished", "note"]
    assert (found[1]["done"], found[1]["figures"]) == (2, {"loss": 0.6})
    assert found[3]["text"] == "two\nlines"


def test_a_log_that_cannot_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = str(tmp_path / "missing" / "log.jsonl")
    assert main(["build", "--data", "phantom:120", "--until", "data", "--log", log]) == 2
    assert "--log" in capsys.readouterr().err
