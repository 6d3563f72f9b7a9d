"""From a finished build to its bundle: blocks of report.json, and the files of the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from edgekd.app import early_checks, medical_figures, provenance
from edgekd.bundle import assemble, bundle_files, hash_chain, licences
from edgekd.bundle.lineage_record import ChainLink
from edgekd.bundle.model_card import CardFacts
from edgekd.bundle.other_formats import OtherFormats
from edgekd.core.artifacts import Confidence, Dataset, Evaluation, Inputs, LiteModel, Network
from edgekd.core.frames import Frame
from edgekd.core.records import UNSET, UnsetType, from_json, present, to_json
from edgekd.core.store import facts_json
from edgekd.data import datasets
from edgekd.evaluation import confidence_record, format_accuracy, subgroups
from edgekd.evaluation.accuracy_record import Accuracy, Metric
from edgekd.evaluation.examples import Example
from edgekd.evaluation.medical_record import Medical
from edgekd.evaluation.subgroup_record import Subgroups
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.proof.certificate_record import CertificateBody
from edgekd.proof.golden import golden_npz
from edgekd.reporting import pretraining
from edgekd.reporting.report_record import Report

# Stages without which there is no bundle, and stages whose artifacts files of a bundle repeat.
NEEDED = ("convert", "certify", "confidence")
RETOLD = (*NEEDED, "bench")


def with_blocks(job: Job, done: Mapping[str, Done], report: Report) -> Report:
    """The report with licences, and with confidence, medical figures and subgroups when the build
    got that far.
    """
    confidence: confidence_record.Confidence | UnsetType = UNSET
    groups: Subgroups | UnsetType = UNSET
    study: Medical | UnsetType = UNSET
    if "confidence" in done:
        confidence = confidence_block(load(done, "confidence"), report)
        study = medical_figures.block(job, done, report, confidence) or UNSET
    if "evaluate" in done and job.recipe.subgroups.column:
        values = column_values(job, load(done, "data"))
        groups = subgroups.report(
            load(done, "evaluate"), values, job.recipe.subgroups, job.recipe.seed
        )
    return msgspec.structs.replace(
        report,
        licences=provenance.licence_chain(job, done),
        confidence=confidence,
        subgroups=groups,
        medical=study,
    )


def gates(job: Job, report: Report) -> list[str]:
    """Why licences and groups fail the build, one sentence each; empty when they do not."""
    chain, groups = present(report.licences), present(report.subgroups)
    failed = [] if chain is None else licences.gates(chain, job.recipe.card)
    return failed if groups is None else failed + subgroups.gates(groups)


UNCALIBRATED = (
    "The images have no labels, so these figures say how surely the file answers as the float "
    "network does, and not how often it is right. The network's own probabilities were kept."
)


def confidence_block(found: Confidence, report: Report) -> confidence_record.Confidence:
    """The confidence stage's record, with a warning when the test split contradicts its promise, or
    when the images have no labels.
    """
    block = confidence_record.read(found.body, "the confidence stage's result")
    if not isinstance(block, confidence_record.ClassConfidence):
        return block  # several labels an image have no prediction sets, and so no promise
    warning = coverage_warning(block)
    if report.data.labels_by == "network":
        warning = UNCALIBRATED
    return msgspec.structs.replace(block, warning=warning) if warning else block


def coverage_warning(block: confidence_record.ClassConfidence) -> str | None:
    """The warning when the test split's coverage contradicts the promised one, else None."""
    low, high = block.test.coverage_ci95
    if low <= block.coverage <= high:
        return None
    return (
        f"The promised coverage of {block.coverage:.0%} does not hold on the test images: "
        f"{block.test.coverage:.1%} (95 %: {low:.1%} to {high:.1%}). Validation and test images do "
        "not come from the same distribution, so expect other shifts in use, too."
    )


def column_values(job: Job, dataset: Dataset) -> list[str | None]:
    """The subgroup column's value of each test image."""
    values = early_checks.subgroup_values(job)
    return [values.get(row["name"]) for row in dataset.images if row["split"] == "test"]


def bundle_of(
    job: Job,
    done: Mapping[str, Done],
    report: Report,
    examples: Sequence[Example],
) -> dict[str, bytes]:
    """The bundle's files, {path: bytes}.

    Empty for a build that did not finish, is not certified, or failed a gate.

    `examples`: the test images that the report shows; they travel with the model.
    """
    from edgekd.reporting.html_report import page

    if any(name not in done for name in NEEDED) or report.gates:
        return {}
    proof = from_json(CertificateBody, load(done, "certify").body, "the certify stage's result")
    chain, accuracy = present(report.licences), present(report.accuracy)
    if not proof.passed or chain is None or accuracy is None:
        return {}
    inputs: Inputs = load(done, "inputs")
    evaluation: Evaluation = load(done, "evaluate")
    student: Network = load(done, "distil")
    model: LiteModel = load(done, "convert")
    place = {row: number for number, row in enumerate(inputs.rows["test"])}
    # Whether a stage was cached is no property of the model: equal builds give equal bundles.
    stages = [msgspec.structs.replace(row, cached=True) for row in report.stages]
    settled = msgspec.structs.replace(report, stages=stages)
    fitted = confidence_record.read(load(done, "confidence").body, "the confidence stage's result")
    told = confidence_block(load(done, "confidence"), report)
    return assemble.assemble(
        assemble.Parts(
            name=job.recipe.card.name or default_name(job),
            classes=report.data.classes,
            fit=job.recipe.data.fit,
            frame=Frame.of(inputs.frame, inputs.px),
            tflite=bytes(model.tflite),
            certificate=proof,
            confidence=fitted,
            licences=chain,
            links=stage_links(job, done),
            card=job.recipe.card,
            results=card_facts(report, accuracy, told),
            report_json=facts_json(to_json(settled)),
            report_html=page(settled, examples).encode(),
            golden_npz=golden_npz(inputs, evaluation, student),
            images=datasets.input_images(inputs, "test", len(student.mean)),
            codes=np.frombuffer(evaluation.codes, np.int8).reshape(-1, evaluation.classes),
            truth=np.asarray(evaluation.labels),
            golden=[place[row] for row in inputs.rows["golden"]],
            others=_other_formats(done, student),
            micro=job.profile if job.profile.micro_kernels else None,
        )
    )


def _other_formats(done: Mapping[str, Done], student: Network) -> OtherFormats:
    found = format_accuracy.made_files(load(done, "formats")) if "formats" in done else {}
    files = {one: bytes(data) for one, data in found.items()}
    return OtherFormats(files, student.mean, student.std)


def card_facts(
    report: Report, accuracy: Accuracy, confidence: confidence_record.Confidence
) -> CardFacts:
    """What the model card tells of the build. `confidence`: with its warning, where it has one."""
    return CardFacts(
        edgekd=report.edgekd,
        profile=report.profile,
        data_name=report.data.name,
        data_source=report.data.source,
        depth=report.data.depth,
        synthetic=report.data.synthetic,
        classes=report.data.classes,
        images=accuracy.n,
        networks=accuracy.waterfall,
        confidence=confidence,
        subgroups=present(report.subgroups),
        medical=present(report.medical),
        formats=present(accuracy.formats) or (),
        agreement=accuracy.metric is Metric.AGREEMENT,
        app_inputs=present(report.app_inputs),
        given=report.models["student"].given,
        pretrained=pretraining.sentence(report),
    )


def stage_links(job: Job, done: Mapping[str, Done]) -> list[ChainLink]:
    """The finished stages as links of the hash chain.

    The links of RETOLD hold what their artifacts consist of, because files of the bundle repeat
    these artifacts.
    """
    packed = {name: done[name].entry.packed for name in RETOLD if name in done}
    return hash_chain.stage_links(provenance.lineage_stages(job, done), packed)


def default_name(job: Job) -> str:
    """What was built, in words: "STUDENT on DATA for PROFILE"."""
    return f"{job.recipe.distil.student} on {job.source.name} for {job.profile.name}"


def head(files: Mapping[str, bytes]) -> str:
    """The last hash of a bundle's lineage: bundles with the same head have the same contents."""
    return bundle_files.read_lineage(files).head
