"""The state of a plan for a time: what it rests on, what it has settled, and its record."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import msgspec

from edgekd.app import plan_words
from edgekd.core.errors import RecipeError
from edgekd.pipeline import time_plan
from edgekd.pipeline.build_costs import REST, Speeds, Work
from edgekd.pipeline.plan_record import PlanBlock, PlanRow
from edgekd.pipeline.time_plan import TimePlan, TooShort
from edgekd.settings import presets, recipe_tables
from edgekd.settings.presets import Value
from edgekd.settings.recipe import Recipe, changed

DATA = "data"  # the row of what comes before the plan
# The stages that a plan is made for, in order, and the settings that nothing changes any more once
# the stage begins, and once it is over.
BEGINS: dict[str, tuple[str, ...]] = {"teacher": (presets.KEY, "teacher.px")}
SETTLES: dict[str, tuple[str, ...]] = {
    "teacher": ("teacher.epochs",),
    "knowledge": ("views.per_image",),
    "pretrain": ("views.per_image", "distil.pretrain_epochs"),
    "distil": (presets.KEY, "views.per_image", "distil.epochs"),
    "prune": ("prune.epochs",),
    "qat": ("qat.epochs",),
}


class TimePlanner:
    """Makes the plan of a build, and makes it again as the build goes on.

    `asked`: the settings as they were asked for, without a time. `settings`: those of the plan.
    """

    def __init__(self, asked: Recipe, minutes: float) -> None:
        self.asked = self.settings = asked
        self.minutes = minutes
        self.work, self.speeds = Work(0, 0, 0, 0), Speeds(0.0)
        self._settled: dict[str, Value] = {}
        self._values: dict[str, Value] = {}
        self._reasons: tuple[str, ...] = ()
        self._corrections: list[str] = []
        self._rows: dict[str, PlanRow] = {}

    def begin(self, work: Work, speeds: Speeds, left: float, passed: float) -> None:
        """Make the first plan. `left`: seconds until the time is up, `passed`: those so far.

        Raises RecipeError where that is too short for the smallest plan.
        """
        self.work, self.speeds = work, speeds
        so_far = round(passed, 1)  # with the start of the command, and the measuring
        self._rows[DATA] = PlanRow(DATA, plan_words.read(work), so_far, so_far)
        made = time_plan.make(left, self.asked, work, speeds)
        if isinstance(made, TooShort):
            raise RecipeError(*plan_words.too_short(self.minutes, passed, made))
        self._reasons = made.reasons
        self._adopt(made)

    def take(self, kept: PlanBlock) -> None:
        """Take the plan of an earlier run as it is."""
        self._values = dict(kept.settings)
        self._reasons, self._corrections = tuple(kept.reasons), [*kept.corrections]
        self._rows = {row.stage: row for row in kept.rows}
        self.settings = changed(self.asked, self._values)

    def seconds(self, stage: str) -> float:
        """What a stage is planned to take."""
        row = self._rows.get(stage)
        return 0.0 if row is None else row.planned_seconds

    def begins(self, stage: str) -> None:
        """Note that a stage begins."""
        self._settle(BEGINS.get(stage, ()))

    def ends(self, stage: str, ratio: float) -> None:
        """Note that a stage is over, and took `ratio` times as long as planned."""
        self._settle(SETTLES[stage])
        if stage == "teacher" and self.settings.teacher.mode == "frozen":
            self._settle(("views.per_image",))  # its head was fitted on all of them
        self.speeds = corrected(self.speeds, stage, ratio)
        self.work = dataclasses.replace(self.work, done=self.work.done | {stage}, answered=0)

    def again(self, left: float, why: str, speeds: Speeds, work: Work) -> Collection[str]:
        """Make the plan again, from other speeds or what is left. Returns the settings that have
        changed.
        """
        self.speeds, self.work = speeds, work
        made = time_plan.make(left, self._base(), work, speeds)
        if isinstance(made, TooShort):
            made = made.smallest
        before = self._values
        self._adopt(made)
        if told := plan_words.changes(before, self._values):
            self._corrections.append(f"{why}: {told}")
        return {key for key, each in self._values.items() if before.get(key) != each}

    @property
    def last_correction(self) -> str:
        """What was changed last, in words."""
        return self._corrections[-1] if self._corrections else ""

    def block(self, taken: Mapping[str, float], seconds: float) -> PlanBlock:
        """The record of the plan. `taken`: what each stage of the build took, in `seconds` in all.

        Rows of the plan stand for one stage or for several.
        """
        sums = dict.fromkeys(self._rows, 0.0)
        for stage, each in taken.items():
            if (row := row_of(stage)) in sums and row != DATA:
                sums[row] += each
        rows = [
            msgspec.structs.replace(row, seconds=round(sums[name], 1)) if sums[name] else row
            for name, row in self._rows.items()
        ]
        return PlanBlock(
            minutes=self.minutes,
            settings=self._values,
            reasons=[*self._reasons],
            corrections=[*self._corrections],
            rows=rows,
            seconds=round(seconds, 1),
        )

    def _base(self) -> Recipe:
        """The settings as they were asked for, with what is settled as if it were given."""
        settled = presets.KEY in self._settled
        preset = (self.settings if settled else self.asked).distil.preset
        based = changed(time_plan.under(self.asked, preset), self._settled)
        return dataclasses.replace(based, given=self.asked.given | set(self._settled))

    def _settle(self, keys: Collection[str]) -> None:
        values = {key: recipe_tables.value(self.settings, key) for key in keys}
        self._settled |= {key: v for key, v in values.items() if key not in self.asked.given}

    def _adopt(self, made: TimePlan) -> None:
        """Take a plan. Rows of stages that are over stay as they are."""
        self._values = {**self._values, **made.values}
        fitted = changed(self._base(), made.values)
        self.settings = dataclasses.replace(fitted, given=self.asked.given)
        over = {name: row for name, row in self._rows.items() if name in {DATA, *self.work.done}}
        ahead = {
            stage: PlanRow(stage, plan_words.what(stage, self.settings, self.work), round(s, 1))
            for stage, s in made.seconds.items()
        }
        self._rows = over | ahead


def corrected(speeds: Speeds, stage: str, ratio: float) -> Speeds:
    """Speeds after a stage that took `ratio` times as long as planned."""
    if stage in ("teacher", "knowledge"):
        return dataclasses.replace(
            speeds, views={side: each * ratio for side, each in speeds.views.items()}
        )
    if stage == "qat":
        return dataclasses.replace(speeds, qat=speeds.qat * ratio)
    return dataclasses.replace(speeds, image=speeds.image * ratio)


def row_of(stage: str) -> str:
    """The row of a plan that a stage of a build belongs to."""
    if stage in (DATA, "inputs"):
        return DATA
    if stage.startswith("teacher"):
        return "teacher"
    return stage if stage in SETTLES else REST
