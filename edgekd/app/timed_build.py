"""A build that fits into a time (`distil.minutes`): planned, watched, and planned again.

The images are read first, since their number decides much. Then some steps are timed, and a plan is
made (`edgekd.pipeline.time_plan`). It is made again before every training, from the time that is
left, and early in a training that is slower or faster than planned. Such a training begins again
with another number of epochs: a schedule that ends at 0 has to know its end from its start. So
every training is an ordinary one, and the settings in the plan's record repeat it.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable

from edgekd.app import early_checks, plan_words
from edgekd.app.progress import Note, Progress, notes_to, stages_to, steps_to
from edgekd.app.stage_watch import Seen, Watch
from edgekd.app.time_planner import BEGINS, SETTLES, TimePlanner, corrected
from edgekd.core import context
from edgekd.core.artifacts import canonical_json, sha256
from edgekd.core.errors import ModelFileError, RecipeError
from edgekd.core.records import from_json, to_json
from edgekd.core.store import Store, facts_json, read_json
from edgekd.pipeline import build_costs, machine_speed, runner
from edgekd.pipeline.jobs import Done, Job
from edgekd.pipeline.plan_record import SCHEMA, PlanBlock, PlanFile
from edgekd.settings import recipe
from edgekd.settings.recipe import Recipe
from edgekd.training.processes import launched

KEY = "distil.minutes"
FILE = "plan.json"  # in the out folder
READING = "inputs"  # the last stage before the plan
# The stages that train the student, and the seconds that one has to take for its speed to say
# something of later ones: shorter ones spend much of their time on what they begin with.
TRAINED, TELLING = ("pretrain", "distil", "prune", "qat"), 30.0
# How often a stage begins again at most. On a machine whose speed changes all the time, more often
# would lose more than it gains.
RESTARTS = 2
ANSWERS = "teacher views"  # the task of asking a teacher, in its progress


class _Misjudged(Exception):
    """A training does not take as long as planned, and begins again with other settings."""


def check(job: Job) -> None:
    """Raise RecipeError for a build that no plan can be made for."""
    settings = job.recipe
    if not settings.distil.minutes:
        return
    what = ""
    if job.given:
        what = "a finished network is converted, which no time is planned for"
    elif not job.labelled:
        what = "no image has a label, so that the build ends with its pretraining"
    elif settings.federated.on:
        what = "clients train, whose time depends on how the images are divided"
    elif launched().size > 1:
        what = "several processes train, and each would measure another time"
    if what:
        raise RecipeError(
            f"{KEY} is {settings.distil.minutes:g}, but {what}",
            f"leave {KEY} out, and set epochs, such as distil.epochs or distil.pretrain_epochs",
        )


class TimedBuild:
    """A build with a plan for its time. `since`: its start, on the `clock`, which is in seconds."""

    def __init__(
        self,
        job: Job,
        store: Store,
        until: str | None,
        progress: Progress,
        since: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asked, self._store, self._until = job, store, until
        self._progress, self._since, self._clock = progress, since, clock
        untimed = recipe.changed(job.recipe, {KEY: 0.0})
        self._planner = TimePlanner(untimed, job.recipe.distil.minutes)
        self._done: dict[str, Done] = {}
        self._told = set[str]()

    @property
    def job(self) -> Job:
        """The job with the settings of the plan. It asks for no time."""
        return self._with(self._planner.settings)

    @property
    def block(self) -> PlanBlock:
        """The record of the plan, with what the stages so far have taken."""
        taken = {name: each.entry.seconds for name, each in self._done.items()}
        return self._planner.block(taken, self._passed)

    def run(self) -> dict[str, Done]:
        """Run the stages. Returns {stage: its result}, as the runner does.

        Raises RecipeError where the time is too short for the smallest plan.
        """
        rows = runner.chosen(self.job, self._until)
        names = [stage.name for stage in rows]
        if (kept := self._kept()) is not None:
            self._planner.take(kept)
            self._say(f"goes on with the plan in {self._store.out / FILE}")
            return self._go(self._until)
        if not any(name in SETTLES for name in names):
            return self._go(self._until)
        early_checks.check_files(self.job, rows)
        self._go(READING)
        self._plan()
        for name in SETTLES:
            if name in names:
                # The teacher's row stands for all teachers.
                self._train(name, [each for each in names if each.startswith(name)][-1])
        return self._go(self._until)

    def _with(self, settings: Recipe) -> Job:
        return dataclasses.replace(self._asked, recipe=settings)

    @property
    def _passed(self) -> float:
        return self._clock() - self._since

    @property
    def _left(self) -> float:
        return 60 * self._planner.minutes - self._passed

    def _say(self, text: str) -> None:
        self._progress(Note(f"edgekd: {text}"))

    # --- planning ---------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Measure, and make the first plan."""
        work = machine_speed.work(self.job, self._done, self._store)
        speeds = machine_speed.speeds(self.job, work.sides)
        self._planner.begin(work, speeds, self._left, self._passed)
        self._keep()
        preset = self._planner.settings.distil.preset
        self._say(plan_words.table(self.block, preset, self._left))

    def _again(self, stage: str, why: str, seen: Seen | None = None) -> bool:
        """Make the plan again. Returns whether that changes the settings of a stage.

        `seen`: what a look at the stage has shown.
        """
        planner = self._planner
        speeds, work = planner.speeds, planner.work
        if seen is not None and seen.task == ANSWERS:
            side = build_costs.teacher_choice(planner.settings, work).px
            there = build_costs.asked(planner.settings, work)[stage] - seen.total
            speeds = dataclasses.replace(speeds, views={**speeds.views, side: seen.seconds})
            work = dataclasses.replace(work, answered=max(0, there) + seen.done)
        elif seen is not None:
            speeds = corrected(speeds, stage, seen.ratio)
        changed = planner.again(self._left, why, speeds, work)
        if changed:
            self._say(planner.last_correction)
        self._keep()
        own = {*BEGINS.get(stage, ()), *SETTLES[stage]}
        if stage == "teacher" and planner.settings.teacher.mode == "frozen":
            own.add("views.per_image")
        return bool(own & set(changed))

    # --- running ----------------------------------------------------------------------------------

    def _train(self, name: str, last: str) -> None:
        """Run a stage of SETTLES. `last`: its name, or that of the last teacher's stage."""
        planner = self._planner
        if planner.work.done:
            self._again(name, f"before {name}, with the time that is left")
        planner.begins(name)
        for restarts in range(RESTARTS + 1):
            tasks = self._tasks(name) if restarts < RESTARTS else {}
            job, start = self.job, self._clock()
            steps, look = steps_to(self._progress), self._looked(name)
            try:
                self._go(last, Watch(steps, tasks, look, self._clock))
                break
            except _Misjudged:
                self._forget(job, name)
        planned, took = planner.seconds(name), self._clock() - start
        tells = name in TRAINED and took > TELLING and not self._done[name].cached
        planner.ends(name, took / planned if tells and planned else 1.0)

    def _tasks(self, name: str) -> dict[str, float]:
        """The task of a stage that is watched, with the seconds that it is planned for."""
        planner = self._planner
        settings, work, speeds = planner.settings, planner.work, planner.speeds
        planned = planner.seconds(name)
        if name == "prune":  # what is cut changes its speed
            return {}
        if name == "qat":
            return {name: planned - build_costs.CALIBRATION * speeds.image}
        if name == "knowledge" or (name == "teacher" and settings.teacher.mode == "frozen"):
            view = speeds.views.get(build_costs.teacher_choice(settings, work).px, 0.0)
            return {ANSWERS: (build_costs.asked(settings, work)[name] - work.answered) * view}
        return {name: planned}

    def _looked(self, name: str) -> Callable[[Seen], None]:
        """What a look at a stage leads to: it begins again where another plan is better."""

        def look(seen: Seen) -> None:
            if self._again(name, plan_words.off(name, seen.ratio), seen):
                raise _Misjudged

        return look

    def _forget(self, job: Job, name: str) -> None:
        """Remove the checkpoint of a training that begins again with other settings."""
        stage = next(stage for stage in runner.chosen(job, name) if stage.name == name)
        settings = None if stage.settings is None else stage.settings(job)
        self._store.checkpoint(name, runner.key(stage, settings, job, self._done)).clear()

    def _go(self, until: str | None, steps: context.Progress | None = None) -> dict[str, Done]:
        """Run the stages up to one, or take them from the store."""
        found = runner.run(
            self.job,
            self._store,
            until,
            steps or steps_to(self._progress),
            self._on_stage,
            notes_to(self._progress),
            functools.partial(early_checks.check_files, self.job),
        )
        for name, each in found.items():
            before = self._done.get(name)
            # A stage that this run has made is found in the store from then on.
            if before is None or before.entry.key != each.entry.key:
                self._done[name] = each
        return self._done

    def _on_stage(self, name: str, done: Done | None) -> None:
        """Report a stage once, however often it is found in the store."""
        if done is None or done.entry.key not in self._told:
            stages_to(self._progress)(name, done)
        if done is not None:
            self._told.add(done.entry.key)

    # --- plan.json --------------------------------------------------------------------------------

    def _digest(self) -> str:
        """What the plan is for."""
        job = self._asked
        asked = [recipe.to_toml(job.recipe), job.profile.name, job.source.fingerprint()]
        return sha256(canonical_json(asked))

    def _keep(self) -> None:
        """Write plan.json, so that a run that is interrupted goes on with this plan."""
        made = PlanFile(asked=self._digest(), plan=self.block)
        self._store.publish(FILE, facts_json(to_json(made)))

    def _kept(self) -> PlanBlock | None:
        """The plan of an earlier run, if it was for the same build."""
        path = self._store.out / FILE
        if not path.is_file():
            return None
        try:
            kept = from_json(PlanFile, read_json(path, SCHEMA), str(path))
        except ModelFileError:
            return None  # an unreadable plan is made again
        return kept.plan if kept.asked == self._digest() else None
