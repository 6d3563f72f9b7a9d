"""One process that takes part in a search."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable

import msgspec

from edgekd.app import build, first_weights, quantities, search_words
from edgekd.app.progress import Advanced, Note, Progress, Update, steps_to
from edgekd.app.results import SearchResult
from edgekd.app.search_start import Prepared, safe
from edgekd.core.errors import GateFailed
from edgekd.core.records import present
from edgekd.core.store import Store
from edgekd.data import dataset_builder
from edgekd.pipeline.jobs import Job
from edgekd.reporting.text import plural
from edgekd.search import (
    account,
    entrants,
    finalist,
    lease,
    published,
    record,
    request,
    rung,
    storage,
)
from edgekd.search.candidate import Candidate
from edgekd.search.finalist import About
from edgekd.search.finishing import Finishing
from edgekd.search.ledger import Kind, Ledger, State, Trial
from edgekd.search.limits import Objective
from edgekd.search.plan import Plan
from edgekd.search.record import FinalistRow, SearchState
from edgekd.search.shared_teacher import Teaching
from edgekd.search.work import SearchWork, Terms
from edgekd.search.worker import Worker
from edgekd.settings import device_profiles, recipe, recipe_toml

FINALISTS = "finalists"  # the folder of whole builds in the out folder


class Party:
    """One process that takes part in a search, and writes the account of it."""

    def __init__(self, prepared: Prepared, progress: Progress) -> None:
        self.prepared, self.progress = prepared, progress
        self.ledger = Ledger(
            storage.open_storage(prepared.where),
            prepared.where,
            prepared.out.absolute().name,
            lease.this_worker(),
        )
        request.agree(self.ledger, self._asked())
        self.work = SearchWork(
            self._terms(),
            self.ledger,
            self.build,
            self._announce,
            self._announce_teaching,
            steps_to(progress),
        )
        self.work.begin(prepared.asked.budget, prepared.started)
        done = sum(each.state is State.DONE for each in self.ledger.trials())
        if done:
            progress(Note(f"edgekd: goes on: {plural(done, 'trial')} done so far"))

    def _asked(self) -> request.Asked:
        """What the study remembers."""
        prepared, settings = self.prepared, self.prepared.job.recipe
        source = prepared.job.source
        plain = recipe_toml.by_key(recipe.to_toml(settings))
        for key in [key for key in plain if key == "data.source" or key.startswith("run.")]:
            del plain[key]  # another machine may see the images elsewhere
        every = [row.candidate for row in prepared.found.forecasts[prepared.devices[0].name]]
        return request.Asked(
            profile=prepared.asked.profile,
            rules=request.digest([device.to_json() for device in prepared.devices]),
            data=f"{source.name} ({request.digest(source.fingerprint())})",
            limits=prepared.asked.limits,
            objective=Objective(prepared.asked.objective),
            settings=plain,
            space=request.of_candidates(every),
            seed=settings.seed,
        )

    def _terms(self) -> Terms:
        prepared, settings = self.prepared, self.prepared.job.recipe
        objective = Objective(prepared.asked.objective)
        found = prepared.found
        likely = entrants.likely(found.reach.within, prepared.asked.limits)
        field = entrants.of(likely, found.forecasts[prepared.devices[0].name], objective)
        images = dataset_builder.training_images(
            prepared.job.source.items(), settings.data, settings.seed
        )
        return Terms(
            entrants=field,
            limits=prepared.asked.limits,
            objective=objective,
            finishing=Finishing.of(settings),
            fewest=rung.fewest_epochs(images, settings.distil.batch),
            images=images,
            workers=prepared.asked.workers,
            seed=settings.seed,
            teacher_sides=prepared.teacher_sides,
        )

    # --- working ----------------------------------------------------------------------------------

    def work_on(self) -> None:
        """Do tasks until nothing is left to do."""
        from edgekd.search.trial import Trials

        self.work.trials = Trials(
            self.job_of,
            Store(self.prepared.out, self.prepared.store),
            self.work.advance,
        )
        Worker(self.ledger, self.work, self._tell).run()

    def job_of(self, candidate: Candidate) -> Job:
        """The job of a candidate's build."""
        teaching = self.work.teaching
        values = {**candidate.settings, **(teaching.settings if teaching else {})}
        if self.work.plan is not None:
            epochs = self.work.plan.epochs[-1]
            values |= {"distil.epochs": epochs, **self.work.terms.finishing.settings(epochs)}
        job = self.prepared.job
        settings = recipe.changed(job.recipe, values)
        profile = device_profiles.load_profile(self.prepared.asked.profile)
        made = first_weights.for_student(job, settings)
        return dataclasses.replace(made, profile=profile.with_edits(settings.edits))

    def build(self, candidate: Candidate) -> FinalistRow:
        """Make the whole build of a candidate in a folder of its own."""
        prepared, start = self.prepared, time.perf_counter()
        name = prepared.found.names[candidate]
        folder = f"{FINALISTS}/{safe(name)}"
        out = prepared.out / folder

        def about() -> About:
            command = [
                *("edgekd", "build", str(out / "recipe.toml")),
                *("--profile", prepared.asked.profile),
                *("--out", str(out), "--store", str(prepared.store)),
            ]
            return About(name, folder, time.perf_counter() - start, shlex.join(command))

        try:
            made = build.build(self.job_of(candidate), out, prepared.store, None, _checked(self))
        except GateFailed as refused:
            return finalist.refused(refused.what, about())
        artifact = present(made.artifact)
        data = None if artifact is None else (out / artifact.path).read_bytes()
        return finalist.row(made, data, prepared.asked.limits, prepared.devices, about())

    # --- telling ----------------------------------------------------------------------------------

    def _announce(self, plan: Plan, left: float) -> None:
        self.progress(Note(f"edgekd: {search_words.planned(plan, left)}"))

    def _announce_teaching(self, teaching: Teaching, left: float) -> None:
        self.progress(Note(f"edgekd: {search_words.taught(teaching, left)}"))

    def _tell(self, trial: Trial) -> None:
        """Say what came of a trial, and bring search.json up to date."""
        text = f"edgekd: {trial.task}: {search_words.came(trial)}"
        left = self.work.left(Kind.BUILD)
        self.progress(Note(f"{text}; {quantities.spoken(max(0.0, left))} left"))
        self.write(SearchState.RUNNING)

    def write(self, state: SearchState) -> record.Search:
        """Write search.json."""
        trials = self.ledger.trials()
        ready = any(each.task.kind is Kind.TEACHER and each.outcome for each in trials)
        situation = self.work.situation(trials) if ready else None
        teacher = self.prepared.job.recipe.teacher.name
        seconds = time.time() - self.prepared.started
        made = account.of(
            self.prepared.found, self.prepared.request, situation, trials, teacher, state, seconds
        )
        published.write(self.prepared.out, made)
        return made

    def result(self) -> SearchResult:
        """The result of a search that has ended."""
        made = self.write(SearchState.FINISHED)
        if made.recommended is not None:
            return SearchResult(self.prepared.out, made)
        why, next_step, state = search_words.why_nothing(made, self.ledger.trials(), self.work.plan)
        made = msgspec.structs.replace(made, state=state, failed=[*why])
        published.write(self.prepared.out, made)
        return SearchResult(self.prepared.out, made, failed=why, next_step=next_step)


def _checked(party: Party) -> Callable[[Update], None]:
    """The progress of a whole build, which may be stopped at each step.

    Only steps are passed on. What the stages of six builds have to say would hide what matters.
    """

    def progress(update: Update, /) -> None:
        party.work.check()
        if isinstance(update, Advanced):
            party.progress(update)

    return progress
