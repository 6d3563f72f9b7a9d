"""`edgekd build`: from settings to a job, through all stages, to the files in the out folder."""

from __future__ import annotations

import dataclasses
import functools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgekd.app import (
    build_settings,
    early_checks,
    event_log,
    finished_teachers,
    first_weights,
    label_rules,
    provenance,
    tensorboard_log,
    timed_build,
)
from edgekd.app.arguments import Build
from edgekd.app.progress import Note, Progress, notes_to, silent, stages_to, steps_to
from edgekd.app.results import BuildResult
from edgekd.app.settings import recipe_of
from edgekd.app.tracking import kept as tracking_kept
from edgekd.app.tracking import of_build
from edgekd.assessment import build_gate
from edgekd.assessment.check_record import DeviceCheck
from edgekd.bundle import bundle_paths, use_check
from edgekd.core.errors import GateFailed, RecipeError
from edgekd.core.number_formats import NumberFormat
from edgekd.core.records import present, to_json
from edgekd.core.store import Store, facts_json
from edgekd.data import source_registry, unsorted
from edgekd.data.sources import UNLABELLED
from edgekd.export import format_packages
from edgekd.networks.foreign.forms import is_foreign, split_weights
from edgekd.pipeline.jobs import Done, Job
from edgekd.pipeline.runner import chosen
from edgekd.pipeline.runner import run as run_stages
from edgekd.pipeline.stage_table import stages
from edgekd.settings import (
    device_profiles,
    loss_catalogue,
    model_specs,
    preset_record,
    presets,
    recipe,
)
from edgekd.settings.recipe import Recipe
from edgekd.training.processes import launched

if TYPE_CHECKING:
    from edgekd.reporting.report_record import Report

BUILDS = Path("builds")
# A build that stops after one of these stages trains nothing, so it needs no check of the student.
BEFORE_TRAINING = ("data", "inputs")


def run(asked: Build) -> BuildResult:
    """Build what the arguments describe.

    A failed gate is part of the result, whether it stops the build or is found at its end. Raises
    EdgeKDError for bad input.
    """
    if not launched().main:
        raise RecipeError(
            "edgekd.build runs in one process, and a launcher has started several",
            "torchrun --nproc-per-node 2 -m edgekd build ... trains with several processes",
        )
    out, since = Path(), time.monotonic()
    if asked.out:
        bundle_paths.check_outside("--out", Path(asked.out))
    try:
        with (
            tensorboard_log.kept(asked.tensorboard, asked.progress or silent) as curves,
            event_log.kept(asked.log, curves) as logged,
            tracking_kept.kept(asked.track, logged) as tracking,
        ):
            progress = tracking or logged
            job_ = prepare(asked, progress)
            out = Path(asked.out or BUILDS / default_name(job_))
            run = tracking and tracking.start(out.name, of_build.settings(job_))
            report = build(job_, out, shared_store(asked), asked.until, progress, since)
            if run:
                of_build.give(run, out, report)
    except GateFailed as refused:
        return BuildResult(out, None, failed=(refused.what,), next_step=refused.next_step)
    return BuildResult(out, report, failed=tuple(present(report.gates) or ()))


def prepare(
    asked: Build, progress: Progress = silent, notes: Callable[[Job], list[str]] | None = None
) -> Job:
    """The job that the arguments describe, with the edits of `fix` applied.

    `notes(job)`: what to tell of its networks; None for all that a build tells.
    """
    settings = recipe_of(asked.recipe, asked.settings, build_settings.own(asked))
    if asked.fix:
        from edgekd.assessment import auto_fix

        fixed = auto_fix.fix_settings(settings, device_profiles.load_profile(asked.profile))
        for key, value in fixed.values.items():
            progress(Note(f"edgekd: --set {key}={value}"))
        settings = fixed.settings
    made = job(settings, asked.profile, asked.until)
    for family in presets.FAMILIES if not settings.distil.minutes else ():
        if preset := preset_record.block(settings, family):
            progress(Note(f"edgekd: {preset}"))
    for told in use_check.warnings(provenance.made_of(made, {}), settings.card):
        progress(Note(f"edgekd: {told}"))
    if told := format_packages.left_out(settings.convert, made.profile):
        progress(Note(f"edgekd: {told}"))
    for told in (notes or _notes)(made):
        progress(Note(f"edgekd: {told}"))
    return made


def _notes(made: Job) -> list[str]:
    """Where the networks start from, and what is assumed of the user's own networks because
    nothing says it.
    """
    if made.given:
        from edgekd.app import given_job

        return given_job.notes(made)
    return [*first_weights.notes(made), *finished_teachers.notes(made)]


def shared_store(asked: Build) -> Path | None:
    """The folder of `store`, or None when the build keeps its stages in its out folder."""
    return None if asked.store is None else Path(asked.store)


def job(settings: Recipe, profile: str, until: str | None = None) -> Job:
    """Open the data source, and check every name in the settings before any work is done.

    `until`: the last stage that is wanted; up to "pretrain" no image needs a label. Raises
    UnknownName, RecipeError, ProfileError or DataError.
    """
    device = device_profiles.load_profile(profile).with_edits(settings.edits)
    if settings.convert.model:
        from edgekd.app import given_job  # torch

        given = given_job.job(settings, device)
        timed_build.check(given)
        return given
    if is_foreign(settings.distil.student):
        raise RecipeError(
            f"{settings.distil.student} is a finished network, and a student is trained from a "
            "name in timm",
            f"edgekd convert {settings.distil.student} --data DIR brings it to the device",
        )
    names = [("student", settings.distil.student)]
    if settings.teacher.name != "none":
        taught = (settings.teacher.name, *settings.teacher.others)
        names += [("teacher", split_weights(name)[0]) for name in taught if not is_foreign(name)]
    for role, name in names:
        if name not in model_specs.names():
            # Imports torch, which a network with a file in models/ does not need yet.
            from edgekd.networks import timm_networks

            timm_networks.check_known(name, role)
    if until == "pretrain" and settings.distil.pretrain == "none":
        raise RecipeError(
            "--until pretrain: distil.pretrain is none, so that there is no such stage",
            "--set distil.pretrain=features adds it",
        )
    if until == "pretrain" and (images := unsorted.without_classes(settings.data)) is not None:
        return _without_labels(Job(settings, device, images, labelled=False))
    source = source_registry.open_all(settings.data)
    if settings.data.unlabelled:
        label_rules.check_unlabelled(settings)
    if source.labels is None:
        classes = len({item.label for item in source.items() if item.split != UNLABELLED})
        loss_catalogue.check(settings.distil.losses, classes)
    else:
        classes = len(source.labels)
        label_rules.check_several_labels(settings, classes)
    early_checks.check_device(settings.run)
    made = first_weights.found(Job(settings, device, source))
    first_weights.check(made, classes)
    finished_teachers.check(made)
    early_checks.check_job(made)
    timed_build.check(made)
    use_check.check(provenance.made_of(made, {}), settings.card)
    return made


def _without_labels(made: Job) -> Job:
    """The job, once it is checked like one with labels, as far as it goes."""
    stages(made)
    made = first_weights.found(made)
    early_checks.check_device(made.recipe.run)
    timed_build.check(made)
    use_check.check(provenance.made_of(made, {}), made.recipe.card)
    return made


def default_name(job: Job) -> str:
    """DATA-STUDENT-PROFILE, in characters that are safe in file names and shells."""
    parts = (Path(job.source.name).name, job.recipe.distil.student, job.profile.name)
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", part).strip("._") or "data" for part in parts)


def build(
    job: Job,
    out: Path,
    shared: Path | None,
    until: str | None,
    progress: Progress = silent,
    since: float | None = None,
) -> Report:
    """Run the stages and publish the files. Returns the report, whose `gates` say what failed.

    `since`: when the command has started, on `time.monotonic`, for a build with `distil.minutes`.

    Raises GateFailed when the check before training fails, and any error of a stage.
    """
    from edgekd.app import pack_bundle, publish, why
    from edgekd.reporting import build_gates, out_folder, report_body  # numpy and the stages' types

    chosen(job, until)
    store = Store(out, shared)
    with store.lock():
        if told := first_weights.check_same(job, out):
            progress(Note(f"edgekd: {told}"))
        store.publish("recipe.toml", recipe.to_toml(job.recipe).encode())
        if until not in BEFORE_TRAINING:
            checked = _checked(job, out / "check.json")
            store.publish("check.json", facts_json(to_json(checked)))
            build_gate.refuse(checked)
            for pruned in (job.latency_cut, job.low_rank):
                if pruned:
                    progress(Note(f"edgekd: {pruned}"))
        timed = _timed(job, store, until, progress, since)
        if timed is None:
            done = _stages(job, store, until, progress)
        else:
            done, job = timed.run(), timed.job
            store.publish("recipe.toml", recipe.to_toml(job.recipe).encode())
        report = report_body.build_report(job, done)
        if until is None and build_gates.int8_fails(report, job.recipe.certify) and _offers(job):
            told = "int8 loses more than certify.max_drop allows: other formats are measured too"
            progress(Note(f"edgekd: {told}"))
            job = _with_offers(job)
            done = _stages(job, store, until, progress)
            report = report_body.build_report(job, done)
        report = pack_bundle.with_blocks(job, done, out_folder.with_results(out, report))
        known = why.known(store, done, job.recipe.qat, job.recipe.seed)
        if known is not None:  # `edgekd report --why` has analysed this network before
            report = msgspec.structs.replace(report, why=known)
        limits = build_gates.judge(report, job.recipe.certify, job.recipe.qat.epochs)
        report = msgspec.structs.replace(
            report,
            gates=limits.failed + pack_bundle.gates(job, report),
            undecided=limits.undecided,
        )
        if timed is not None and (plan := timed.block).rows:  # none where nothing is trained
            report = msgspec.structs.replace(report, plan=plan)
        return publish.publish(store, job, done, report)


def _timed(
    job: Job, store: Store, until: str | None, progress: Progress, since: float | None
) -> timed_build.TimedBuild | None:
    """The build with a plan for its time, or None where none is asked for."""
    if not job.recipe.distil.minutes:
        return None
    start = time.monotonic() if since is None else since
    return timed_build.TimedBuild(job, store, until, progress, start)


def _stages(job: Job, store: Store, until: str | None, progress: Progress) -> dict[str, Done]:
    """Run the stages, or take them from the store."""
    return run_stages(
        job,
        store,
        until,
        steps_to(progress),
        stages_to(progress),
        notes_to(progress),
        functools.partial(early_checks.check_files, job),
    )


def _offers(job: Job) -> bool:
    """Whether other formats can be made and none was asked for."""
    only_int8 = job.formats == (NumberFormat.INT8,) and job.recipe.ports.resize == "outside"
    return only_int8 and bool(format_packages.offered(job.profile))


def _with_offers(job: Job) -> Job:
    """The job with the formats on offer. Its other stages keep their results."""
    offered = format_packages.offered(job.profile)
    return dataclasses.replace(job, recipe=recipe.changed(job.recipe, {"convert.formats": offered}))


def _checked(job: Job, kept: Path) -> DeviceCheck:
    """What the device makes of the network, before anything is trained or calibrated."""
    if not job.given:
        return build_gate.before_build(job.student, job.recipe, job.profile, kept)
    from edgekd.app import given_job

    return given_job.check(job.recipe, job.profile)


def follow(job: Job, out: Path, shared: Path | None, until: str | None) -> None:
    """Take part in a build that another process leads: train with it and write nothing."""
    run_stages(job, Store(out, shared), until)
