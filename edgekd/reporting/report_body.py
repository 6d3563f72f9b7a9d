"""artifacts -> report.json (schema edgekd.report/1), and the table of it for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import edgekd
from edgekd.assessment import assess
from edgekd.core.artifacts import Certificate, Dataset, LiteModel, Measurement, Network, sha256
from edgekd.core.records import to_json
from edgekd.evaluation import waterfall
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.tflite.flatbuffer import read

SCHEMA = "edgekd.report/1"


def build_report(job: Job, done: Mapping[str, Done]) -> dict[str, Any]:
    """The report of whatever stages have finished; parts of stages that have not are absent."""
    dataset: Dataset = load(done, "data")
    teachers = [teacher.stage for teacher in job.teachers]
    body: dict[str, Any] = {
        "schema": SCHEMA,
        "edgekd": edgekd.__version__,
        "profile": job.profile.name,
        "seed": job.recipe.seed,
        "data": _data(dataset, done["data"].entry.digest),
        "stages": [
            {
                "stage": name,
                "key": d.entry.key,
                "digest": d.entry.digest,
                "seconds": round(d.entry.seconds, 2),
                "cached": d.cached,
            }
            for name, d in done.items()
        ],
        "models": {
            name: _model(load(done, stage))
            for name, stage in (
                *((teacher, teacher) for teacher in teachers),
                ("student", "distil"),
                ("pruned", "prune"),
            )
            if stage in done
        },
        "training": {
            name: load(done, name).history
            for name in (*teachers, "distil", "prune", "qat")
            if name in done
        },
    }
    if "evaluate" in done:
        scale = load(done, "convert").facts["output"]["scale"]
        names = [image["name"] for image in dataset.images if image["split"] == "test"]
        body["accuracy"] = waterfall.accuracy(
            load(done, "evaluate"),
            names,
            dataset.classes,
            job.recipe.budget,
            scale,
            job.recipe.seed,
        )
    if "convert" in done:
        body["artifact"] = artifact(load(done, "convert"))
        body["device"] = device(job, load(done, "convert"))
    if "certify" in done:
        body["certificate"] = certificate_summary(load(done, "certify"))
    if "bench" in done:
        measurement: Measurement = load(done, "bench")
        body["bench"] = [measurement.body]
    return body


def _data(dataset: Dataset, digest: str) -> dict[str, Any]:
    count = {
        split: sum(row["split"] == split for row in dataset.images)
        for split in ("train", "val", "test")
    }
    return {
        "name": dataset.name,
        "digest": digest,
        "classes": dataset.classes,
        **count,
        **dataset.facts,
    }


def _model(network: Network) -> dict[str, Any]:
    return {
        "arch": network.arch,
        "params": network.facts["params"],
        "macs": network.facts["macs"],
        "input": [network.px, network.px, len(network.mean)],
        **network.facts,
    }


def artifact(model: LiteModel) -> dict[str, Any]:
    """The "artifact" block: what the file is."""
    return {"path": "model.tflite", "sha256": sha256(model.tflite), **model.facts}


def device(job: Job, model: LiteModel) -> dict[str, Any]:
    """The "device" block: what `edgekd check` says of the finished file."""
    found = assess.assess(read(model.tflite), job.profile)
    memory = {key: value for key, value in to_json(found.memory).items() if key.endswith("_bytes")}
    return {
        "predicted": to_json(found.predicted),
        "memory": {"file_bytes": model.facts["bytes"], **memory},
        "mapped": to_json(found.mapped.block()),
    }


def certificate_summary(certificate: Certificate) -> dict[str, Any]:
    """certificate.json without the row an op that `op_local` keeps: 20 KB that only a search for one op needs."""
    body = dict(certificate.body)
    return {
        **body,
        "op_local": {key: value for key, value in body["op_local"].items() if key != "by_op"},
    }


def gates(job: Job, report: Mapping[str, Any]) -> list[str]:
    """What the result fails, each in one sentence; empty when the build is good."""
    failed = []
    certificate = report.get("certificate")
    if certificate and not certificate["passed"]:
        for failure in certificate["failures"][:5]:
            place = next(
                (failure[where] for where in ("tensor", "op", "file") if where in failure), ""
            )
            failed.append(
                f"certificate: {failure['check']} at {place}: expected {failure['expected']}, found "
                f"{failure['found']}; {failure['next_step']}"
            )
    if "accuracy" in report:
        rows = {row["stage"]: row for row in report["accuracy"]["waterfall"]}
        lost = rows["student"]["top1"] - rows["tflite"]["top1"]
        limit = job.recipe.certify.max_drop
        # half an image of slack: a limit of 2 % of 624 images is 12.48, and 12 flips are within it
        if lost > limit + 0.5 / report["accuracy"]["n"]:
            of = waterfall.WORDS[report["accuracy"]["metric"]]
            failed.append(
                f"accuracy: int8 loses {lost:.1%} of {of} against the float student, at most {limit:.1%} is "
                f"allowed. {report['accuracy']['verdict']['text']} Train longer with --set "
                f"qat.epochs={job.recipe.qat.epochs * 2 or 3}, or ask `edgekd report --why` for the ops"
            )
    return failed


def number(value: float | None, digits: int = 3) -> str:
    """A figure for a table; a dash where there is none."""
    return (
        "–"
        if value is None or (isinstance(value, float) and math.isnan(value))
        else f"{value:.{digits}f}"
    )
