"""Build the report (schema edgekd.report/1) from the artifacts of a build's stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

import edgekd
from edgekd.assessment import assess, format_latency
from edgekd.assessment.compiler_answer import CompiledForDevice
from edgekd.core.artifact_rows import FurtherRow
from edgekd.core.artifacts import (
    ONNX,
    RECORDED,
    Certificate,
    Dataset,
    Evaluation,
    Formats,
    Knowledge,
    LiteModel,
    Measurement,
    Network,
    sha256,
)
from edgekd.core.records import UNSET, from_json, present, to_json
from edgekd.device.bench_record import Bench
from edgekd.evaluation import format_accuracy, format_offers, waterfall
from edgekd.evaluation.accuracy_record import Accuracy, FurtherAccuracy
from edgekd.evaluation.app_inputs_record import AppInputs
from edgekd.networks.first_weights import FirstWeights
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.proof.certificate_record import CertificateBody
from edgekd.reporting import worth_of_weights
from edgekd.reporting.network_record import EpochRow, NetworkBlock, TeacherStep
from edgekd.reporting.report_record import (
    Artifact,
    DataBlock,
    DeviceBlock,
    DeviceMemory,
    Report,
    StageBlock,
)
from edgekd.settings import preset_record, presets
from edgekd.tflite.flatbuffer import read

SPLITS = ("train", "val", "test")


def build_report(job: Job, done: Mapping[str, Done]) -> Report:
    """The report of the stages that have finished. Blocks of other stages are absent."""
    dataset: Dataset = load(done, "data")
    teachers = [teacher.stage for teacher in job.teachers]
    # the stage that makes the network of each role
    networks = {
        **dict(zip(teachers, teachers, strict=True)),
        "pretrained": "pretrain",
        "student": "distil",
        "pruned": "prune",
    }
    worth = {} if job.given else {"student": _worth(job, dataset)}
    trained = (*teachers, "pretrain", "distil", "prune", "qat")
    converted: LiteModel | None = load(done, "convert") if "convert" in done else None
    bench: Measurement | None = load(done, "bench") if "bench" in done else None
    return Report(
        edgekd=edgekd.__version__,
        profile=job.profile.name,
        seed=job.recipe.seed,
        data=_data(dataset, done["data"].entry.digest),
        stages=[_stage(name, row) for name, row in done.items()],
        preset=preset_record.block(job.recipe, presets.TRAINING) or UNSET,
        prune_preset=preset_record.block(job.recipe, presets.COMPRESSION) or UNSET,
        models=_with_more(
            job,
            {
                role: _network(load(done, stage), job.origins.get(role), worth.get(role, ""))
                for role, stage in networks.items()
                if stage in done
            },
            teachers,
            done,
        ),
        training={name: _history(load(done, name).history) for name in trained if name in done},
        accuracy=UNSET if "evaluate" not in done else _accuracy(job, done, dataset),
        artifact=UNSET if converted is None else artifact(converted),
        device=UNSET if converted is None else device(job, converted),
        certificate=UNSET if "certify" not in done else certificate_summary(load(done, "certify")),
        app_inputs=UNSET
        if "app_inputs" not in done
        else from_json(AppInputs, load(done, "app_inputs").body, "the app_inputs stage's result"),
        bench=UNSET
        if bench is None
        else [from_json(Bench, bench.body, "the bench stage's result")],
    )


def _data(dataset: Dataset, digest: str) -> DataBlock:
    count = {split: sum(row["split"] == split for row in dataset.images) for split in SPLITS}
    body = {
        "name": dataset.name,
        "digest": digest,
        "classes": dataset.classes,
        **count,
        **dataset.facts,
    }
    return from_json(DataBlock, body, "the facts of the data set")


def _stage(name: str, row: Done) -> StageBlock:
    return StageBlock(
        stage=name,
        key=row.entry.key,
        digest=row.entry.digest,
        seconds=round(row.entry.seconds, 2),
        cached=row.cached,
        device=row.entry.device or UNSET,
    )


def _worth(job: Job, dataset: Dataset) -> str:
    """What trained weights would be worth to the student, or ""."""
    first = job.origins.get("student")
    if first is None:
        return ""
    labelled = sum(row["split"] == "train" for row in dataset.images)
    return worth_of_weights.line(job.recipe.distil.student, first, labelled)


def _network(network: Network, first: FirstWeights | None, worth: str) -> NetworkBlock:
    size = [network.px, network.px, len(network.mean)]
    # A network that no builder makes is called what the user calls it.
    arch = network.facts["name"] if network.arch in (RECORDED, ONNX) else network.arch
    body = {"arch": arch, "input": size, **network.facts}
    found = from_json(NetworkBlock, body, f"the facts of the network {network.arch}")
    if first is None:
        return found
    return msgspec.structs.replace(found, first_weights=first.line, trained_weights=worth or UNSET)


def _with_more(
    job: Job, networks: dict[str, NetworkBlock], teachers: list[str], done: Mapping[str, Done]
) -> dict[str, NetworkBlock]:
    """The networks, with what asking the teachers in another way gained them, and with the latency
    that the student was pruned to.
    """
    knowledge: Knowledge | None = load(done, "knowledge")
    asked = [] if knowledge is None else knowledge.facts.get("steps", [])
    found = dict(networks)
    for role, rows in zip(teachers, asked, strict=False):
        more = [from_json(TeacherStep, row, "a step of the knowledge stage") for row in rows]
        before = present(found[role].steps) or []
        found[role] = msgspec.structs.replace(found[role], steps=[*before, *more])
    if "pruned" in found and (cut := job.latency_cut):
        found["pruned"] = msgspec.structs.replace(found["pruned"], latency=cut)
    return found


def _history(rows: list[dict[str, Any]]) -> list[EpochRow]:
    return [from_json(EpochRow, row, "the history of a training") for row in rows]


def _accuracy(job: Job, done: Mapping[str, Done], dataset: Dataset) -> Accuracy:
    evaluation: Evaluation = load(done, "evaluate")
    images = waterfall.Images(
        names=[str(image["name"]) for image in dataset.images if image["split"] == "test"],
        classes=dataset.classes,
        output_scale=load(done, "convert").facts["output"]["scale"],
        seed=job.recipe.seed,
        answered=dataset.facts.get("labels_by") == "network",
    )
    found = waterfall.accuracy(evaluation, images, job.recipe.budget)
    if evaluation.further:
        rows = [_further(row) for row in evaluation.further]
        found = msgspec.structs.replace(found, further_outputs=rows)
    if "formats" not in done:
        return format_offers.with_offers(found)
    formats: Formats = load(done, "formats")
    found = msgspec.structs.replace(
        found,
        formats=format_accuracy.rows(evaluation, load(done, "convert"), formats, job.recipe.seed),
        formats_failed=format_accuracy.failed(formats),
    )
    return format_offers.with_offers(found)


def _further(row: FurtherRow) -> FurtherAccuracy:
    """What report.json says of an output beside the answers."""
    return FurtherAccuracy(
        name=row["name"],
        shape=row["shape"],
        axes=row["axes"],
        images=row["images"],
        cosine=row["cosine"],
        sqnr_db=row["sqnr_db"],
    )


def artifact(model: LiteModel) -> Artifact:
    """What the file is."""
    body = {"path": "model.tflite", "sha256": sha256(model.tflite), **model.facts}
    return from_json(Artifact, body, "the facts of the converted file")


def device(job: Job, model: LiteModel, compiled: CompiledForDevice | None = None) -> DeviceBlock:
    """What `edgekd check` says of the finished file.

    `compiled`: what the device's compiler made of it; its table then says what maps.
    """
    graph = read(model.tflite)
    found = assess.assess(graph, job.profile)
    if compiled is not None:
        found = assess.assess_compiled(graph, job.profile, found.loading, compiled)
    memory = {**to_json(found.memory), "file_bytes": len(model.tflite)}
    latencies = format_latency.format_latencies(graph, job.profile, job.formats)
    return DeviceBlock(
        predicted=found.predicted,
        memory=from_json(DeviceMemory, memory, "the memory of the file"),
        mapped=found.mapped.block(),
        compiler=UNSET if compiled is None else compiled.report,
        formats=latencies or UNSET,
    )


def certificate_summary(certificate: Certificate) -> CertificateBody:
    """certificate.json without the row for each operator, which only a search for one needs.

    `op_local`'s rows ("by_op") take about 20 KB.
    """
    body = from_json(CertificateBody, certificate.body, "the certify stage's result")
    op_local = msgspec.structs.replace(body.op_local, by_op=UNSET)
    return msgspec.structs.replace(body, op_local=op_local)
