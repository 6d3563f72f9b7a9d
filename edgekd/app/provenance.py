"""What a build was made from: lineage.json, and the licences of the data and of every network."""

from __future__ import annotations

from collections.abc import Mapping

from edgekd.bundle import licences, lineage_record
from edgekd.bundle.licences import DataTerms, NetworkTerms
from edgekd.bundle.licences_record import LicenceChain
from edgekd.bundle.lineage_record import Lineage, LineageSource, LineageStage
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.pipeline.stage_table import stages


def lineage(job: Job, done: Mapping[str, Done]) -> Lineage:
    """lineage.json: the finished stages, and the licences of the data and of every network."""
    sources = {
        "data": LineageSource(job.source.name, job.source.facts.licence),
        "student": LineageSource(job.student.name, job.student.licence or "not stated"),
    }
    for teacher in job.teachers:
        sources[teacher.stage] = LineageSource(teacher.name, teacher.spec.licence or "not stated")
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
        )
        for name, finished in done.items()
    ]


def licence_chain(job: Job, done: Mapping[str, Done]) -> LicenceChain:
    """The licence chain of a build.

    The origin of a network's weights is unknown before the network is trained.
    """
    facts = job.source.facts
    data = DataTerms(job.source.name, facts.licence, facts.source)
    return licences.chain(data, network_terms(job, done), job.recipe.card)


def network_terms(job: Job, done: Mapping[str, Done]) -> list[NetworkTerms]:
    """The terms of every teacher and then of the student, with the origin of their weights."""
    networks = [(teacher.stage, teacher.spec, teacher.stage) for teacher in job.teachers]
    networks.append(("student", job.student, "distil"))
    return [NetworkTerms(role, spec, _origin(done, stage)) for role, spec, stage in networks]


def _origin(done: Mapping[str, Done], stage: str) -> str:
    """Where the weights of a stage's network come from: of a file its name, without its folder."""
    if stage not in done:
        return "not loaded yet"
    stated = str(load(done, stage).facts.get("weights", "not stated"))
    return stated.replace("\\", "/").rsplit("/", 1)[-1]
