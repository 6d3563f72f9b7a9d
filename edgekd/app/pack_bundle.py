"""From a finished build to its bundle: the report's blocks on confidence, groups and licences, their gates, the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekd.bundle import assemble, hash_chain, licences
from edgekd.core.artifacts import Confidence, Dataset, Evaluation, Inputs, LiteModel, Network
from edgekd.core.errors import RecipeError
from edgekd.data import datasets
from edgekd.evaluation import subgroups
from edgekd.evaluation.examples import Example
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.pipeline.stage_table import STAGES
from edgekd.proof.golden import golden_npz

Block = dict[str, Any]


def blocks(job: Job, done: Mapping[str, Done]) -> Block:
    """The blocks "licences", "confidence" and "subgroups" of report.json, each when the build got that far."""
    found: Block = {"licences": chain(job, done)}
    if "confidence" in done:
        found["confidence"] = confidence_block(load(done, "confidence"))
    if "evaluate" in done and job.recipe.subgroups.column:
        dataset: Dataset = load(done, "data")
        values = column_values(job, dataset)
        found["subgroups"] = subgroups.report(
            load(done, "evaluate"), values, job.recipe.subgroups, job.recipe.seed
        )
    return found


def confidence_block(found: Confidence) -> Block:
    """The confidence stage's body, with a warning when the test images are not held as promised."""
    body = dict(found.body)
    warning = coverage_warning(body)
    return body | {"warning": warning} if warning else body


def coverage_warning(body: Mapping[str, Any]) -> str | None:
    """What to say when the test split contradicts the promise: the two splits are then not drawn alike."""
    if body["kind"] == "labels":
        return None  # several labels have no prediction sets, and so no promise
    low, high = body["test"]["coverage_ci95"]
    if low <= body["coverage"] <= high:
        return None
    return (
        f"The promise of {body['coverage']:.0%} does not hold on the test images: {body['test']['coverage']:.1%} (95 %: "
        f"{low:.1%} to {high:.1%}). Validation and test images are not drawn alike, so expect other shifts in use, too."
    )


def column_values(job: Job, dataset: Dataset) -> list[str | None]:
    """The subgroup column's value of each test image. Raises RecipeError where the source has no manifest."""
    name = job.recipe.subgroups.column
    read = getattr(job.source, "column", None)
    if read is None:
        raise RecipeError(
            f"subgroups.column is {name!r}, but {job.source.name} has no manifest.csv",
            "give a folder with a manifest.csv, or --set subgroups.column=",
        )
    values = read(name)
    return [values.get(row["name"]) for row in dataset.images if row["split"] == "test"]


def chain(job: Job, done: Mapping[str, Done]) -> Block:
    """The licence chain of this build."""
    networks = {}
    for role, spec, stage in (
        ("teacher", job.teacher, "teacher"),
        ("student", job.student, "distil"),
    ):
        if spec is not None:
            origin = (
                str(load(done, stage).facts.get("weights", "not stated"))
                if stage in done
                else "not loaded yet"
            )
            networks[role] = (
                spec,
                origin.replace("\\", "/").rsplit("/", 1)[-1],
            )  # a file's folder is nobody's business
    facts = job.source.facts
    return licences.chain(
        {
            "name": job.source.name,
            "licence": facts.licence,
            "source": facts.source,
        },
        networks,
        job.recipe.card,
    )


def gates(job: Job, body: Mapping[str, Any]) -> list[str]:
    """What licences and groups fail, one sentence each."""
    failed = licences.gates(body["licences"], job.recipe.card)
    return failed + subgroups.gates(body["subgroups"]) if "subgroups" in body else failed


def bundle_of(
    job: Job, done: Mapping[str, Done], body: Mapping[str, Any], examples: Sequence[Example]
) -> dict[str, bytes]:
    """The bundle's files, {} when the build did not get there, is not certified, or failed a gate.

    `examples`: the test images that its report shows; they travel with the model as the golden ones do.
    """
    from edgekd.reporting.html_report import page

    needed = ("convert", "certify", "confidence")
    if (
        any(name not in done for name in needed)
        or not load(done, "certify").body["passed"]
        or body.get("gates")
    ):
        return {}
    dataset: Dataset = load(done, "data")
    inputs: Inputs = load(done, "inputs")
    evaluation: Evaluation = load(done, "evaluate")
    student: Network = load(done, "distil")
    model: LiteModel = load(done, "convert")
    place = {row: number for number, row in enumerate(inputs.rows["test"])}
    settled = {
        **body,
        "stages": [{**row, "cached": True} for row in body["stages"]],
    }  # whether it was cached is no fact of it
    return assemble.assemble(
        assemble.Parts(
            name=job.recipe.card.name or default_name(job),
            classes=list(dataset.classes),
            fit=job.recipe.data.fit,
            tflite=bytes(model.tflite),
            certificate=load(done, "certify").body,
            confidence=load(done, "confidence").body,
            report=settled,
            report_html=page(settled, examples),
            licences=body["licences"],
            links=stage_links(done),
            card=job.recipe.card,
            golden_npz=golden_npz(inputs, evaluation, student),
            images=datasets.input_images(inputs, "test", len(student.mean)),
            codes=np.frombuffer(evaluation.codes, np.int8).reshape(-1, evaluation.classes),
            truth=np.asarray(evaluation.labels),
            golden=[place[row] for row in inputs.rows["golden"]],
        )
    )


def default_name(job: Job) -> str:
    """What was built, in words: "student on data for profile"."""
    return f"{job.recipe.distil.student} on {job.source.name} for {job.profile.name}"


def stage_links(done: Mapping[str, Done]) -> list[dict[str, Any]]:
    """The build's stages as links of the hash chain."""
    parents = {stage.name: [p for p in stage.parents if p in done] for stage in STAGES}
    rows = [
        {"stage": name, "key": d.entry.key, "digest": d.entry.digest, "parents": parents[name]}
        for name, d in done.items()
    ]
    return hash_chain.stage_links(rows, assemble.payloads(done))


def head(files: Mapping[str, bytes]) -> str:
    """The last hash of a bundle's lineage: what to compare a copy with."""
    return str(assemble.load_json(files, "lineage.json")["head"])
