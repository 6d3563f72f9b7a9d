"""From a finished build to its bundle: report.json's blocks on confidence, groups and licences, and the bundle's files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from edgekd.app import provenance
from edgekd.bundle import assemble, hash_chain, licences
from edgekd.bundle.licences_record import LicenceChain
from edgekd.core.artifacts import (
    Certificate,
    Confidence,
    Dataset,
    Evaluation,
    Inputs,
    Json,
    LiteModel,
    Network,
)
from edgekd.core.errors import RecipeError
from edgekd.core.records import to_json
from edgekd.data import datasets
from edgekd.evaluation import subgroups
from edgekd.evaluation.examples import Example
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.proof.golden import golden_npz
from edgekd.settings.recipe import CardConfig


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The blocks of report.json that this module adds, each None when the build did not get that far.

    `confidence` and `subgroups` are JSON of `edgekd.evaluation` (conformal or label_thresholds, and subgroups).
    """

    licences: LicenceChain
    confidence: Json | None
    subgroups: Json | None

    def to_json(self) -> dict[str, Json]:
        """The blocks under their names in report.json."""
        found = {
            "licences": to_json(self.licences),
            "confidence": self.confidence,
            "subgroups": self.subgroups,
        }
        return {name: block for name, block in found.items() if block is not None}

    def gates(self, card: CardConfig) -> list[str]:
        """Why licences and groups fail the build, one sentence each; empty when they do not."""
        failed = licences.gates(self.licences, card)
        return failed + subgroups.gates(self.subgroups) if self.subgroups is not None else failed


def blocks(job: Job, done: Mapping[str, Done]) -> Blocks:
    """The blocks "licences", "confidence" and "subgroups" of report.json."""
    groups = None
    if "evaluate" in done and job.recipe.subgroups.column:
        values = column_values(job, load(done, "data"))
        groups = subgroups.report(
            load(done, "evaluate"), values, job.recipe.subgroups, job.recipe.seed
        )
    return Blocks(
        provenance.licence_chain(job, done),
        confidence_block(load(done, "confidence")) if "confidence" in done else None,
        groups,
    )


def confidence_block(found: Confidence) -> Json:
    """The confidence stage's body, with a warning when the test images contradict the promised coverage."""
    warning = coverage_warning(found.body)
    return {**found.body, "warning": warning} if warning else dict(found.body)


def coverage_warning(body: Json) -> str | None:
    """The warning when the coverage measured on the test split contradicts the promised one, else None.

    `body`: the confidence stage's JSON. Several labels an image have no prediction sets, and so no promise.
    """
    if body["kind"] == "labels":
        return None
    low, high = body["test"]["coverage_ci95"]
    if low <= body["coverage"] <= high:
        return None
    return (
        f"The promised coverage of {body['coverage']:.0%} does not hold on the test images: "
        f"{body['test']['coverage']:.1%} (95 %: {low:.1%} to {high:.1%}). Validation and test images do "
        "not come from the same distribution, so expect other shifts in use, too."
    )


def column_values(job: Job, dataset: Dataset) -> list[str | None]:
    """The subgroup column's value of each test image. Raises RecipeError when the source has no manifest."""
    name = job.recipe.subgroups.column
    read = getattr(job.source, "column", None)
    if read is None:
        raise RecipeError(
            f"subgroups.column is {name!r}, but {job.source.name} has no manifest.csv",
            "name a folder with a manifest.csv as --data, or --set subgroups.column=",
        )
    values = read(name)
    return [values.get(row["name"]) for row in dataset.images if row["split"] == "test"]


def bundle_of(
    job: Job,
    done: Mapping[str, Done],
    body: Json,
    extra: Blocks,
    examples: Sequence[Example],
) -> dict[str, bytes]:
    """The bundle's files, {path: bytes}; {} for a build that did not finish, is not certified, or failed a gate.

    `body`: report.json. `examples`: the test images that the report shows; they travel with the model.
    """
    from edgekd.reporting.html_report import page

    if any(name not in done for name in ("convert", "certify", "confidence")) or body.get("gates"):
        return {}
    certificate: Certificate = load(done, "certify")
    if not certificate.body["passed"]:
        return {}
    dataset: Dataset = load(done, "data")
    inputs: Inputs = load(done, "inputs")
    evaluation: Evaluation = load(done, "evaluate")
    student: Network = load(done, "distil")
    model: LiteModel = load(done, "convert")
    place = {row: number for number, row in enumerate(inputs.rows["test"])}
    # Whether a stage was cached is no property of the model: equal builds give equal bundles.
    settled = {**body, "stages": [{**row, "cached": True} for row in body["stages"]]}
    return assemble.assemble(
        assemble.Parts(
            name=job.recipe.card.name or default_name(job),
            classes=list(dataset.classes),
            fit=job.recipe.data.fit,
            tflite=bytes(model.tflite),
            certificate=certificate.body,
            confidence=load(done, "confidence").body,
            report=settled,
            report_html=page(settled, examples),
            licences=extra.licences,
            links=hash_chain.stage_links(
                provenance.lineage_stages(job, done), assemble.payloads(done)
            ),
            card=job.recipe.card,
            golden_npz=golden_npz(inputs, evaluation, student),
            images=datasets.input_images(inputs, "test", len(student.mean)),
            codes=np.frombuffer(evaluation.codes, np.int8).reshape(-1, evaluation.classes),
            truth=np.asarray(evaluation.labels),
            golden=[place[row] for row in inputs.rows["golden"]],
        )
    )


def default_name(job: Job) -> str:
    """What was built, in words: "STUDENT on DATA for PROFILE"."""
    return f"{job.recipe.distil.student} on {job.source.name} for {job.profile.name}"


def head(files: Mapping[str, bytes]) -> str:
    """The last hash of a bundle's lineage. Two bundles with the same head have the same contents."""
    return assemble.read_lineage(files).head
