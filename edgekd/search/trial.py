"""A trial: one candidate trained up to a rung, and scored on the validation images.

All trials of a search share one store. Images are decoded once, one teacher is trained once, and it
is asked once about each view (`shared_teacher`), whatever the students' networks, widths and input
sizes are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

from edgekd.core.artifacts import Dataset, Network
from edgekd.core.context import Progress, mute, silent
from edgekd.core.pause import Pause, Paused
from edgekd.core.records import from_json
from edgekd.core.store import Store
from edgekd.data import datasets
from edgekd.evaluation.accuracy_record import Figures
from edgekd.pipeline import runner
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.pipeline.stage import Stage
from edgekd.pipeline.stage_table import stages
from edgekd.search.candidate import Candidate
from edgekd.search.rung import Part, Rung
from edgekd.training import fit, network_figures

SPLIT = "val"  # the test images choose nothing: they judge the finished networks


@dataclasses.dataclass(frozen=True)
class Score:
    """How well a candidate did at a rung, on the validation images.

    `figures`: of the student; at a pause with its present weights, and at the end of its training
    with the averaged ones that a build keeps. `teacher`: the teacher's figures on the same images,
    None where there is no teacher. `epochs`: of the student's training in all; more than the rung's
    where another trial went on before. `trained`: how many of them this trial did. `images`:
    training images of one epoch. `seconds`: what the whole trial took, and `training_seconds` its
    epochs and the judging after each.
    """

    candidate: Candidate
    rung: Rung
    figures: Figures
    teacher: Figures | None
    epochs: int
    trained: int
    images: int
    seconds: float
    training_seconds: float

    @property
    def value(self) -> float:
        """What candidates at one rung are ranked by; more is better."""
        return self.figures.top1 if self.figures.auc is None else self.figures.auc

    @property
    def images_per_second(self) -> float | None:
        """Training images a second, or None where this trial trained no epoch."""
        return self.trained * self.images / self.training_seconds if self.trained else None

    @property
    def drop_points(self) -> float | None:
        """Points of top-1 below the teacher on the same images; None without a teacher."""
        return None if self.teacher is None else 100 * (self.teacher.top1 - self.figures.top1)


class Trials:
    """The trials of one worker.

    `job_of(candidate)`: the job of its build. `store`: the one that all workers share.
    """

    def __init__(
        self,
        job_of: Callable[[Candidate], Job],
        store: Store,
        progress: Progress = silent,
        say: Callable[[str], None] = mute,
    ) -> None:
        self.job_of, self.store, self.progress, self.say = job_of, store, progress, say

    def prepare(self, candidate: Candidate) -> Figures | None:
        """Do what all candidates share: decode the images, train the teacher, ask it.

        Of several workers one does it, while the others wait. Returns the teacher's figures on the
        validation images, or None without a teacher.
        """
        return _teacher(self._shared(self.job_of(candidate)))

    def family(self, candidate: Candidate) -> str:
        """The key of the student's training.

        Candidates with the same one are the same until a rung of Part.PRUNE.
        """
        job = self.job_of(candidate)
        return _key(job, Part.DISTIL, self._shared(job))

    def run(self, candidate: Candidate, rung: Rung) -> Score:
        """Train a candidate up to a rung, from where its last trial stopped, and score it.

        Two processes never train the same student at once: the later one waits, and finds it
        trained. At a rung of Part.PRUNE a candidate that is not pruned is scored as it is.

        Raises what the stages raise: TrainingDiverged, OutOfMemory, or GateFailed for a network
        that cannot be pruned.
        """
        start = time.perf_counter()
        job = self.job_of(candidate)
        done = self._shared(job)
        images: Dataset = load(done, "data")
        distil = _key(job, Part.DISTIL, done)
        with self._alone(Part.DISTIL, distil):
            before = self._epochs(job, distil)
            began = time.perf_counter()
            student = self._trained(job, Part.DISTIL, Pause(Part.DISTIL, rung.epochs))
            training_seconds = time.perf_counter() - began
        epochs = len(student.history)
        if rung.part is Part.PRUNE and _has(job, Part.PRUNE):
            student = self._pruned(job)
        return Score(
            candidate=candidate,
            rung=rung,
            figures=network_figures.of_split(student, images, job.source, SPLIT, job.hardware),
            teacher=_teacher(done),
            epochs=epochs,
            trained=max(0, epochs - before),
            images=len(datasets.taught(images)),
            seconds=time.perf_counter() - start,
            training_seconds=training_seconds,
        )

    def _alone(self, name: str, key: str) -> contextlib.AbstractContextManager[None]:
        """A context that one process at a time is in. Waiting is reported as progress."""
        return self.store.alone(name, key, lambda: self.progress("waits for another worker", 0, 1))

    def _shared(self, job: Job) -> dict[str, Done]:
        """The stages before the student's training, {name: result}."""
        names = [stage.name for stage in stages(job)]
        last = names[names.index(Part.DISTIL) - 1]
        try:
            return runner.run(job, self.store, last, check=_refuse)
        except _NotThere:
            with self._alone("shared", ""):
                return runner.run(job, self.store, last, self.progress, say=self.say)

    def _trained(self, job: Job, part: Part, pause: Pause | None) -> Network:
        """The network of a stage, as it is at the pause or at the end."""
        try:
            done = runner.run(job, self.store, part, self.progress, say=self.say, pause=pause)
        except Paused as paused:
            return paused.network
        network: Network = load(done, part)
        return network

    def _pruned(self, job: Job) -> Network:
        """The student after pruning, whose training is finished."""
        done = runner.run(job, self.store, Part.DISTIL)
        with self._alone(Part.PRUNE, _key(job, Part.PRUNE, done)):
            return self._trained(job, Part.PRUNE, None)

    def _epochs(self, job: Job, distil: str) -> int:
        """Epochs that the student has been trained for."""
        if self.store.find(Part.DISTIL, distil) is not None:
            return job.recipe.distil.epochs
        return fit.epochs_in(self.store.checkpoint(Part.DISTIL, distil).load())


class _NotThere(Exception):
    """A stage would have to run."""


def _refuse(_stages: Sequence[Stage]) -> None:
    raise _NotThere


def _has(job: Job, part: Part) -> bool:
    return part in [stage.name for stage in stages(job)]


def _key(job: Job, part: Part, done: Mapping[str, Done]) -> str:
    """The key of a stage, whose parents are done."""
    stage = next(stage for stage in stages(job) if stage.name == part)
    settings = None if stage.settings is None else stage.settings(job)
    return runner.key(stage, settings, job, done)


def _teacher(done: Mapping[str, Done]) -> Figures | None:
    """What the teacher's stage says of its answers to the validation images."""
    teacher: Network | None = load(done, "teacher")
    if teacher is None:
        return None
    told = teacher.facts["metrics"]
    return from_json(Figures, told[SPLIT], "the teacher in the store")
