"""The files of an out folder, written at the end of a build."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgekd.app import pack_bundle, provenance
from edgekd.assessment.compiler_answer import CompiledForDevice, CompilerAnswer, CompilerFailed
from edgekd.assessment.mappers.registry import mapper_for
from edgekd.bundle import archive
from edgekd.core.artifacts import Dataset, LiteModel
from edgekd.core.errors import DeviceError
from edgekd.core.number_formats import NumberFormat, file_name
from edgekd.core.records import present, to_json
from edgekd.core.store import Store, facts_json
from edgekd.evaluation import format_accuracy
from edgekd.evaluation.examples import Example, choose
from edgekd.networks import weight_licences
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.proof.golden import golden_npz
from edgekd.reporting import report_body
from edgekd.reporting.html_report import page
from edgekd.reporting.report_record import BundleBlock, Report
from edgekd.settings.device_profiles import DeviceProfile

PRETRAINED = "pretrained.safetensors"  # a student that knows a teacher's features
# Files that describe a finished model. A build that stops early removes those of an earlier one.
MODEL_FILES = (
    PRETRAINED,
    "model.tflite",
    "model.onnx",
    "golden.npz",
    "certificate.json",
    "bench/local.json",
    "uncertified.tflite",
    "model_edgetpu.tflite",
    "model_edgetpu.log",
    "bundle.zip",
    *(file_name(one) for one in NumberFormat if one is not NumberFormat.INT8),
)


def publish(store: Store, job: Job, done: Mapping[str, Done], report: Report) -> Report:
    """Write every file that the finished stages give, and remove those that no longer hold.

    Returns the report as it was written, with the path of the model and the digest of the bundle.
    The model is named model.tflite only when its certificate passed.
    """
    dataset: Dataset = load(done, "data")
    files: dict[str, bytes] = {
        "labels.txt": "".join(f"{name}\n" for name in dataset.classes).encode(),
        "lineage.json": facts_json(to_json(provenance.lineage(job, done))),
    }
    more, report = _model_files(job, done, report)
    files |= more
    examples = shown_examples(done)
    bundled = pack_bundle.bundle_of(job, done, report, examples)
    if bundled:
        size = sum(map(len, bundled.values()))
        block = BundleBlock(pack_bundle.head(bundled), len(bundled), size)
        report = msgspec.structs.replace(report, bundle=block)
        files |= {f"bundle/{name}": payload for name, payload in bundled.items()}
        files["bundle.zip"] = archive.pack(bundled)
    files["report.json"] = facts_json(to_json(report))
    files["report.html"] = page(report, examples).encode()
    store.withdraw_below("bundle", {name for name in files if name.startswith("bundle/")})
    for name in MODEL_FILES:
        if name not in files:
            store.withdraw(name)
    for name, payload in files.items():
        store.publish(name, payload)
    return report


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


def _model_files(
    job: Job, done: Mapping[str, Done], report: Report
) -> tuple[dict[str, bytes], Report]:
    """The files of MODEL_FILES that the finished stages give, but for the bundle.

    Also returns the report with the model's path, and with what the device's compiler printed.
    """
    files: dict[str, bytes] = {}
    if "pretrain" in done:
        licence = provenance.licence_of_weights(job, done)
        files[PRETRAINED] = weight_licences.stating(load(done, "pretrain").state, licence)
    if "export" in done:
        files["model.onnx"] = bytes(load(done, "export").qdq)
    if "certify" in done:
        certificate = load(done, "certify").body
        name = "model.tflite" if certificate["passed"] else "uncertified.tflite"
        if artifact := present(report.artifact):
            artifact = msgspec.structs.replace(artifact, path=name)
            report = msgspec.structs.replace(report, artifact=artifact)
        files[name] = bytes(load(done, "convert").tflite)
        files["certificate.json"] = facts_json(certificate)
        if certificate["passed"] and mapper_for(job.profile).compiler:
            answer = compiled_by_device(files[name], job.profile)
            files |= answer.files if isinstance(answer, CompiledForDevice) else {}
            report = _with_compiler(report, job, load(done, "convert"), answer)
        files["golden.npz"] = golden_npz(
            load(done, "inputs"), load(done, "evaluate"), load(done, "distil")
        )
    if "formats" in done:
        made = format_accuracy.made_files(load(done, "formats"))
        files |= {file_name(one): bytes(data) for one, data in made.items()}
    if "bench" in done:
        files["bench/local.json"] = facts_json(load(done, "bench").body)
    return files, report


def compiled_by_device(model: bytes, profile: DeviceProfile) -> CompilerAnswer:
    """What the device's compiler answers; None where it is not installed or cannot be run."""
    try:
        return mapper_for(profile).compile(model, profile)
    except CompilerFailed as error:
        return error
    except DeviceError:
        return None


def _with_compiler(report: Report, job: Job, model: LiteModel, answer: CompilerAnswer) -> Report:
    """The report with the compiler's answer.

    Without the compiler, the block "mapped" says that the mapping is predicted. A model that the
    compiler refuses fails the build.
    """
    block = present(report.device)
    if block is None:
        return report
    if isinstance(answer, CompiledForDevice):
        return msgspec.structs.replace(report, device=report_body.device(job, model, answer))
    printed = None if answer is None else answer.report
    block = msgspec.structs.replace(block, compiler=printed)
    gates = present(report.gates) or []
    failed = [] if answer is None else [answer.what]
    return msgspec.structs.replace(report, device=block, gates=[*gates, *failed])
