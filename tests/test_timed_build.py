"""A build with `distil.minutes`: its plan is carried out, kept, repeated and corrected."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from edgekd.app import build, plan_words
from edgekd.app.arguments import Build
from edgekd.app.progress import Advanced, StageFinished, Update
from edgekd.app.stage_watch import LEAST_SECONDS, LOOKS, Seen, Watch
from edgekd.app.time_planner import TimePlanner
from edgekd.app.timed_build import FILE, TimedBuild, check
from edgekd.app.tracking import of_build
from edgekd.core.errors import RecipeError
from edgekd.core.store import Store
from edgekd.pipeline import build_costs, machine_speed
from edgekd.pipeline.build_costs import Speeds, Work
from edgekd.pipeline.jobs import Job
from edgekd.settings import recipe
from tests.small_build import STUDENT, STUDENT_OPTIONS, TEACHER

SETS = [
    "data.source=phantom:120@40",
    "data.input_px=32",
    f"teacher.name={TEACHER}",
    f"distil.student={STUDENT}",
    STUDENT_OPTIONS,
    "teacher.epochs=1",
]
WORK = Work(images=4700, labelled=4700, judged=520, tested=624, sides=(140, 98))
SPEEDS = Speeds(image=0.007, views={140: 0.0265, 98: 0.013})


def job(*sets: str) -> Job:
    return build.job(recipe.load(None, [*SETS, *sets]), "pi4")


def test_the_settings_of_a_plan_repeat_the_build(tmp_path: Path) -> None:
    # With the epochs given, the plan chooses the views, and the build ends long before its time.
    asked = Build(
        settings=[*SETS, "distil.epochs=1", "qat.epochs=1"],
        minutes=60,
        out=tmp_path / "out",
        until="distil",
    )
    made = build.run(asked).made
    assert made is not None
    plan = json.loads((tmp_path / "out" / "report.json").read_text())["plan"]
    assert plan["minutes"] == 60
    assert plan["settings"]["views.per_image"] == 1
    assert of_build.figures(made)["plan/views.per_image"] == 1
    assert {row["stage"] for row in plan["rows"] if "seconds" in row} == {
        *("data", "teacher", "knowledge", "distil"),
    }
    # The same command keeps its plan, and the recipe of the out folder needs none.
    assert FILE in [path.name for path in (tmp_path / "out").iterdir()]
    again = build.run(asked).made
    assert again is not None
    assert all(row.cached for row in again.stages)
    store = tmp_path / "out" / "store"
    repeated = Build(tmp_path / "out" / "recipe.toml", out=tmp_path / "b", store=store)
    found = build.run(dataclasses.replace(repeated, until="distil")).made
    assert found is not None
    assert [row.key for row in found.stages] == [row.key for row in made.stages]
    assert "plan" not in json.loads((tmp_path / "b" / "report.json").read_text())


def test_a_training_that_is_slower_than_planned_begins_again_with_fewer_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that only training moves, by a second a step, where half a second was measured.
    clock = [0.0]
    finished: list[str] = []

    def progress(update: Update) -> None:
        if isinstance(update, Advanced) and update.task == "distil":
            clock[0] += 1.0
        if isinstance(update, StageFinished):
            finished.append(update.stage)

    def measured(_job: Job, sides: tuple[int, ...]) -> Speeds:
        return Speeds(image=0.5 / 32, views=dict.fromkeys(sides, 1e-4))

    monkeypatch.setattr(machine_speed, "speeds", measured)
    made = job("distil.minutes=1.5", "qat.epochs=1", "teacher.name=none")
    store = Store(tmp_path)
    timed = TimedBuild(made, store, "distil", progress, 0.0, lambda: clock[0])
    timed.run()
    first, second = (int(part.split()[0]) for part in _epochs(timed.block.corrections))
    assert timed.job.recipe.distil.epochs == second < 0.7 * first
    assert not timed.job.recipe.distil.minutes
    assert len(finished) == len(set(finished))  # a stage is reported once
    assert not [*store.entries.glob("*.part")]  # nothing is left of what was given up
    assert "distil takes" in timed.block.corrections[0]


def _epochs(corrections: list[str]) -> tuple[str, str]:
    """The epochs before the first correction and after the last one."""
    told = [text.partition("distil.epochs ")[2] for text in corrections if "distil.epochs" in text]
    return told[0].partition("instead of ")[2], told[-1]


@pytest.mark.parametrize(
    ("step", "looks"), [(1.0, []), (1.5, [1.5, 1.5]), (1.2, [1.2]), (0.5, [0.5, 0.5])]
)
def test_a_watch_looks_at_what_is_off(step: float, looks: list[float]) -> None:
    clock, seen = [0.0], list[Seen]()
    watch = Watch(lambda *_, **__: None, {"distil": 1000.0}, seen.append, lambda: clock[0])
    for done in range(1, 1001):
        watch("distil", done, 1000)
        watch("another", done, 1000) if done == 1 else None
        clock[0] += step
    assert [round(each.ratio, 1) for each in seen] == looks
    if len(looks) == len(LOOKS):
        first = LOOKS[0][0] * 1000
        assert first <= seen[0].done * step <= first + LEAST_SECONDS


def test_a_plan_keeps_what_has_begun_and_gives_the_time_that_is_left() -> None:
    planner = TimePlanner(recipe.load(None, ["teacher.name=vit", "teacher.mode=frozen"]), 15)
    planner.begin(WORK, SPEEDS, 890, 10)
    first = planner.settings
    planner.begins("teacher")
    faster = dataclasses.replace(SPEEDS, views={140: 0.003, 98: 0.0015})
    changed = planner.again(1500, "it is faster", faster, WORK)
    assert "views.per_image" in changed
    assert planner.settings.teacher.px == first.teacher.px == 98  # its answers would be lost
    planner.ends("teacher", 1.0)
    views = planner.settings.views.per_image
    planner.ends("knowledge", 1.0)
    planner.again(200, "little is left", planner.speeds, planner.work)
    assert planner.settings.views.per_image == views > first.views.per_image
    assert planner.settings.distil.epochs < first.distil.epochs
    planner.ends("distil", 2.0)
    assert planner.speeds.image == pytest.approx(2 * SPEEDS.image)
    planner.again(1.0, "nothing is left", planner.speeds, planner.work)
    assert planner.settings.qat.epochs == 0
    assert planner.settings.given == planner.asked.given  # a plan's choices are not the user's
    block = planner.block({"data": 9.0, "teacher": 1.0, "teacher2": 2.0}, 60.0)
    assert [row.seconds for row in block.rows[:2]] == [10.0, 3.0]
    widths = {len(line) for line in plan_words.taken(block)[1:]}
    assert len(widths) == 1
    assert [row.stage for row in block.rows] == [
        *("data", "teacher", "distil", "qat", build_costs.REST),
    ]
    assert len(block.corrections) == 2


def test_a_time_that_is_too_short_says_which_would_do() -> None:
    planner = TimePlanner(recipe.load(None, ["teacher.name=vit", "teacher.mode=frozen"]), 2)
    with pytest.raises(RecipeError) as caught:
        planner.begin(WORK, SPEEDS, 110, 10)
    assert "distil.minutes is 2" in caught.value.what
    minutes = float(str(caught.value.next_step).rpartition(" ")[2])
    TimePlanner(planner.asked, minutes).begin(WORK, SPEEDS, 60 * minutes - 10, 10)


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["federated.clients=2", "teacher.name=none"], "clients train"),
        (["convert.model=net.onnx"], "a finished network is converted"),
    ],
)
def test_a_build_that_no_time_is_planned_for_is_refused(sets: list[str], told: str) -> None:
    made = dataclasses.replace(job(), recipe=recipe.load(None, [*SETS, "distil.minutes=5", *sets]))
    with pytest.raises(RecipeError, match=told):
        check(made)


def test_changes_of_a_plan_in_words() -> None:
    told = plan_words.changes({"distil.epochs": 9}, {"distil.epochs": 7, "teacher.px": 98})
    assert told == "distil.epochs 7 instead of 9, teacher.px 98"
    assert not plan_words.changes({"distil.epochs": 9}, {"distil.epochs": 9})
