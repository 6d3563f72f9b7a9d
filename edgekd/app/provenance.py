"""What a build was made from: lineage.json, and the licences of the data and of every teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgekd.bundle import licences, lineage_record, teacher_terms
from edgekd.bundle.licences import DataTerms, LogTerms, NetworkTerms, Parts
from edgekd.bundle.licences_record import LicenceChain
from edgekd.bundle.lineage_record import Lineage, LineageSource, LineageStage
from edgekd.bundle.teacher_terms import LOG, OutputTerms
from edgekd.core.records import UNSET
from edgekd.data import answer_logs
from edgekd.networks import weight_licences
from edgekd.pipeline.jobs import Done, Job, Teacher, load
from edgekd.pipeline.stage_table import stages


def lineage(job: Job, done: Mapping[str, Done]) -> Lineage:
    """lineage.json: the finished stages, and the licences of the data and of every teacher."""
    parts, card = made_of(job, done), job.recipe.card
    sources = {
        "data": LineageSource(job.source.name, parts.data.licence),
        **{
            network.role: LineageSource(
                network.spec.name,
                licences.network_link(network, card).licence,
                network.digest or UNSET,
            )
            for network in parts.networks
        },
    }
    if parts.unlabelled is not None:
        extra = parts.unlabelled
        sources["unlabelled"] = LineageSource(extra.name, extra.licence)
    if parts.log is not None:
        sources[LOG] = LineageSource(parts.log.model, licences.log_link(parts.log).licence)
    return Lineage(lineage_record.SCHEMA, sources, lineage_stages(job, done))


def lineage_stages(job: Job, done: Mapping[str, Done]) -> list[LineageStage]:
    """The finished stages, parents before children, with the digests of their parents."""
    parents = {stage.name: stage.parents for stage in stages(job)}
    return [
        LineageStage(
            name,
            finished.entry.key,
            finished.entry.digest,
            {parent: done[parent].entry.digest for parent in parents[name] if parent in done},
            finished.entry.device or UNSET,
        )
        for name, finished in done.items()
    ]


def licence_chain(job: Job, done: Mapping[str, Done]) -> LicenceChain:
    """The licence chain of a build."""
    return licences.chain(made_of(job, done), job.recipe.card)


def licence_of_weights(job: Job, done: Mapping[str, Done]) -> str:
    """The licence of the student's weights, and of all that they were learned from, in words."""
    return licences.of_student(made_of(job, done), job.recipe.card)


def made_of(job: Job, done: Mapping[str, Done]) -> Parts:
    """Everything that the model is made from, with its terms.

    The origin of a network's weights is unknown before the network is trained. Raises UnknownName
    and RecipeError for wrong `teacher.terms`, and DataError for a log that cannot be read.
    """
    facts, config = job.source.facts, job.recipe
    log = Path(config.distil.logs) if config.distil.logs else None
    roles = [LOG] if log else [teacher.stage for teacher in job.teachers]
    stated = teacher_terms.declared(config.teacher.terms, roles)
    return Parts(
        data=DataTerms(job.source.name, facts.licence, facts.source),
        networks=tuple(_networks(job, done, stated)),
        log=_log(log, stated, config.card.teacher_licence) if log else None,
        unlabelled=_unlabelled(config.data.unlabelled),
    )


def _networks(
    job: Job, done: Mapping[str, Done], stated: Mapping[str, OutputTerms]
) -> Iterator[NetworkTerms]:
    """Every teacher and then the student, with the origin and the licence of their weights."""
    for teacher in job.teachers:
        if teacher.given:
            yield _given_teacher(job, done, teacher, stated.get(teacher.stage))
            continue
        yield NetworkTerms(
            teacher.stage,
            teacher.spec,
            _origin(job, done, teacher.stage, teacher.stage),
            weight_licences.of_weights(teacher.spec, teacher.weights),
            stated.get(teacher.stage),
        )
    if job.given:
        yield _given(job)
        return
    licence = weight_licences.of_weights(job.student, job.recipe.distil.weights)
    origin = _origin(job, done, "student", "distil")
    yield NetworkTerms("student", job.student, origin, licence)


def _given_teacher(
    job: Job, done: Mapping[str, Done], teacher: Teacher, stated: OutputTerms | None
) -> NetworkTerms:
    """A finished network of the user's that teaches, with the licence that its file states."""
    from edgekd.quantization import given_network, given_teacher  # torch

    facts = given_teacher.network(teacher.as_config(job.recipe.teacher)).facts
    licence = str(facts["licence"]) or f"not stated by {facts['weights']}"
    origin = _origin(job, done, teacher.stage, teacher.stage)
    digest = str(facts[given_network.DIGEST])
    return NetworkTerms(teacher.stage, teacher.spec, origin, licence, stated, digest)


def _given(job: Job) -> NetworkTerms:
    """The user's own network, with the licence that its file or its weights state."""
    from edgekd.quantization import given_network  # torch

    found = given_network.foreign(dataclasses.replace(job.recipe.convert, labels="auto"))
    licence = found.licence or f"not stated by {found.origin}"
    spec = dataclasses.replace(job.student, name=found.name, source="the user's own network")
    return NetworkTerms("student", spec, found.origin, licence, digest=found.digest)


def _log(path: Path, stated: Mapping[str, OutputTerms], licence: str) -> LogTerms:
    """The teacher whose answers a log holds. The file's folder is no property of the model."""
    model = answer_logs.model(path)
    return LogTerms(model, path.name, teacher_terms.of_log(model, stated.get(LOG), licence))


def _unlabelled(folder: str) -> DataTerms | None:
    """The images without labels beside the data; a folder of images states no licence."""
    if not folder:
        return None
    return DataTerms(
        Path(folder).name, "not stated: a folder carries no licence", "data.unlabelled"
    )


def _origin(job: Job, done: Mapping[str, Done], role: str, stage: str) -> str:
    """Where the weights of a stage's network come from: of a file its name, without its folder."""
    if stage not in done:
        return "not loaded yet"
    first = job.origins.get(role)
    if first is not None and first.published:
        return first.origin
    stated = str(load(done, stage).facts.get("weights", "not stated"))
    return stated.replace("\\", "/").rsplit("/", 1)[-1]
