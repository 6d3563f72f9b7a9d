"""The start of a search: open the images, and predict every candidate."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path

from edgekd.app import build, finished_teachers, first_weights, search_command
from edgekd.app.arguments import Build
from edgekd.app.progress import Note, Progress, silent
from edgekd.app.search_arguments import Search
from edgekd.app.settings import listed, sets
from edgekd.bundle import bundle_paths
from edgekd.core.errors import RecipeError
from edgekd.pipeline.jobs import Job
from edgekd.reporting.text import plural
from edgekd.search import reach, storage
from edgekd.search.account import Found
from edgekd.search.limits import Objective
from edgekd.search.record import Request
from edgekd.settings import device_profiles, presets
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.settings.recipe import DistilConfig, PruneConfig


@dataclasses.dataclass(frozen=True)
class Prepared:
    """All that is known before training.

    `job`: what all candidates share, with one of them in the place of the student. `devices`: that
    of the limits first. `started`: Unix time in seconds. `teacher_sides`: of the teacher's input,
    as `shared_teacher.sizes`.
    """

    asked: Search
    job: Job
    devices: tuple[DeviceProfile, ...]
    found: Found
    out: Path
    where: str
    started: float
    teacher_sides: tuple[int, ...] = ()

    @property
    def store(self) -> Path:
        """The folder of finished stages, which all candidates share."""
        return Path(self.asked.store or self.out / "store")

    @property
    def request(self) -> Request:
        """What was asked, for search.json."""
        return Request(
            profile=self.asked.profile,
            also=list(self.asked.also),
            data=self.job.source.name,
            data_digest=None,
            limits=self.asked.limits,
            objective=Objective(self.asked.objective),
            budget_seconds=self.asked.budget,
            workers=self.asked.workers,
            seed=self.job.recipe.seed,
            settings=[*sets(self.asked.settings), *self._preset()],
            command=search_command.line(self.asked),
        )

    def _preset(self) -> list[str]:
        """The option --preset as a setting."""
        named = presets.of_names(listed(self.asked.preset or ""))
        return [f"{key}={name}" for key, name in named.items()]


def prepare(asked: Search, progress: Progress = silent) -> Prepared:
    """Open the images, and predict every candidate. Raises EdgeKDError for bad input."""
    from edgekd.search import predict, shared_teacher, space

    started, limits = time.time(), asked.limits
    if asked.out:
        bundle_paths.check_outside("--out", Path(asked.out))
    job = build.prepare(
        Build(
            asked.recipe,
            profile=asked.profile,
            data=asked.data,
            teacher=asked.teacher,
            teacher_frozen=asked.teacher_frozen,
            teacher_as_is=asked.teacher_as_is,
            preset=asked.preset,
            settings=asked.settings,
            seed=asked.seed,
            device=asked.device,
        ),
        progress,
        _notes,
    )
    _check_distil(job.recipe.distil)
    _check_prune(job.recipe.prune)
    out = Path(asked.out or build.BUILDS / _default_name(job))
    wanted = space.default() if asked.space is None else space.load(Path(asked.space))
    candidates = space.candidates(wanted, job.profile)
    devices = (
        job.profile,
        *(
            device_profiles.load_profile(name).with_edits(job.recipe.edits)
            for name in dict.fromkeys(asked.also)
            if name != asked.profile
        ),
    )
    progress(
        Note(f"edgekd: {plural(len(candidates), 'candidate')} to predict on {devices[0].name} ...")
    )
    classes = len(job.source.labels or {item.label for item in job.source.items()})
    rows = predict.forecasts(candidates, job.recipe, devices[0], devices[1:], classes)
    forecasts = {
        device.name: [row for row in rows if row.profile == device.name] for device in devices
    }
    sorted_out = reach.within(forecasts[devices[0].name], limits)
    sides: tuple[int, ...] = ()
    if sorted_out.within:
        sides = shared_teacher.sizes(job, sorted_out.candidates)
        shared = shared_teacher.shared(job, sorted_out.candidates)
        job = dataclasses.replace(job, recipe=shared)
    found = Found(forecasts, sorted_out)
    where = asked.storage or storage.default(out)
    return Prepared(asked, job, devices, found, out, where, started, sides)


def _notes(job: Job) -> list[str]:
    """What a build tells of its teachers. The job's student only stands for all candidates."""
    return [*first_weights.notes_of_teachers(job), *finished_teachers.notes(job)]


def _check_prune(config: PruneConfig) -> None:
    """Raise RecipeError for low-rank pairs, which no candidate is predicted with."""
    if config.low_rank:
        raise RecipeError(
            f"prune.low_rank is {config.low_rank:g}, and a search predicts its candidates without "
            "low-rank pairs",
            "leave it out, and build what the search recommends with --set "
            f"prune.low_rank={config.low_rank:g}",
        )


def _check_distil(config: DistilConfig) -> None:
    """Raise RecipeError for settings that make no sense for many students."""
    if config.minutes:
        raise RecipeError(
            f"distil.minutes is {config.minutes:g}, and a search plans the time of all "
            "its trainings together",
            "leave distil.minutes out, and give --budget",
        )
    if config.pretrain != "none":
        raise RecipeError(
            "distil.pretrain is features, and each of a search's students would learn them before "
            "the search could drop it",
            "search with --set distil.pretrain=none, and build what it recommends with features",
        )


def _default_name(job: Job) -> str:
    parts = ("search", Path(job.source.name).name, job.profile.name)
    return "-".join(safe(part) or "data" for part in parts)


def safe(name: str) -> str:
    """A name in characters that are safe in file names and shells."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", name.replace(" %", "%").replace("%", "pc")).strip("-._")
