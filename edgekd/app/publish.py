"""The files of an out folder, written at the end of a build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.app import pack_bundle, provenance
from edgekd.app.pack_bundle import Blocks
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.bundle import archive
from edgekd.core.artifacts import Dataset
from edgekd.core.records import to_json
from edgekd.core.store import Store, facts_json
from edgekd.evaluation.examples import Example, choose
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.proof.golden import golden_npz
from edgekd.reporting.html_report import page
from edgekd.settings.device_profiles import DeviceProfile

# Published files that describe a finished model. A build that stops early removes an earlier build's.
MODEL_FILES = (
    "model.tflite",
    "model.onnx",
    "golden.npz",
    "certificate.json",
    "bench/local.json",
    "uncertified.tflite",
    "model_edgetpu.tflite",
    "model_edgetpu.log",
    "bundle.zip",
)


def publish(
    store: Store, job: Job, done: Mapping[str, Done], body: dict[str, Any], blocks: Blocks
) -> None:
    """Write every file that the finished stages give, and remove those that no longer hold.

    `body`, the report, is completed with the path of the model and the digest of the bundle. The
    model is named model.tflite only when its certificate passed.
    """
    dataset: Dataset = load(done, "data")
    files: dict[str, bytes] = {
        "labels.txt": "".join(f"{name}\n" for name in dataset.classes).encode(),
        "lineage.json": facts_json(to_json(provenance.lineage(job, done))),
        **_model_files(job, done, body),
    }
    examples = shown_examples(done)
    bundled = pack_bundle.bundle_of(job, done, body, blocks, examples)
    if bundled:
        body["bundle"] = {
            "sha256": pack_bundle.head(bundled),
            "files": len(bundled),
            "bytes": sum(map(len, bundled.values())),
        }
        files |= {f"bundle/{name}": payload for name, payload in bundled.items()}
        files["bundle.zip"] = archive.pack(bundled)
    files["report.json"] = facts_json(body)
    files["report.html"] = page(body, examples).encode()
    store.withdraw_below("bundle", {name for name in files if name.startswith("bundle/")})
    for name in MODEL_FILES:
        if name not in files:
            store.withdraw(name)
    for name, payload in files.items():
        store.publish(name, payload)


def shown_examples(done: Mapping[str, Done]) -> list[Example]:
    """The test images that a report shows; none when the build stopped before its evaluation."""
    if "evaluate" not in done:
        return []
    return choose(
        load(done, "data"),
        load(done, "inputs"),
        load(done, "evaluate"),
        saliency=load(done, "saliency"),
    )


def _model_files(job: Job, done: Mapping[str, Done], body: dict[str, Any]) -> dict[str, bytes]:
    """The files of MODEL_FILES that the finished stages give, but for the bundle."""
    files: dict[str, bytes] = {}
    if "export" in done:
        files["model.onnx"] = bytes(load(done, "export").qdq)
    if "certify" in done:
        certificate = load(done, "certify").body
        name = "model.tflite" if certificate["passed"] else "uncertified.tflite"
        body["artifact"]["path"] = name
        files[name] = bytes(load(done, "convert").tflite)
        files["certificate.json"] = facts_json(certificate)
        if certificate["passed"] and mapper_for(job.profile).compiler:
            files |= compiled_files(files[name], job.profile, body["device"])
        files["golden.npz"] = golden_npz(
            load(done, "inputs"), load(done, "evaluate"), load(done, "distil")
        )
    if "bench" in done:
        files["bench/local.json"] = facts_json(load(done, "bench").body)
    return files


def compiled_files(
    model: bytes, profile: DeviceProfile, device: dict[str, Any]
) -> dict[str, bytes]:
    """The files that the device's compiler writes, where it is installed.

    What the compiler printed goes into `device`, the block of the report with that name. Without
    it, the block "mapped" says that the mapping is predicted.
    """
    done = mapper_for(profile).compile(model, profile)
    device["compiler"] = None if done is None else to_json(done.report)
    return {} if done is None else dict(done.files)
