"""What `edgekd build` does: the job from its settings, the fold over the stages, and the files in the out folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgekd.app import provenance
from edgekd.assessment import student_check
from edgekd.bundle import licences
from edgekd.core.artifacts import Dataset
from edgekd.core.errors import RecipeError
from edgekd.core.records import to_json
from edgekd.core.store import Store, facts_json
from edgekd.data import source_registry
from edgekd.data.sources import UNLABELLED
from edgekd.pipeline.jobs import Done, Job, load
from edgekd.pipeline.runner import run
from edgekd.settings import device_profiles, loss_catalogue, model_specs, recipe
from edgekd.settings.device_profiles import DeviceProfile
from edgekd.settings.recipe import Recipe

if TYPE_CHECKING:
    from edgekd.app.pack_bundle import Blocks

# Published files that describe a finished model; a build that does not get there leaves none of an earlier one's.
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
BEFORE_TRAINING = (
    "data",
    "inputs",
)  # a build that stops after one of these trains nothing that a check could spare


class Watcher(Protocol):
    """Who is told about a build: the console, or a test."""

    def progress(self, what: str, done: int, total: int, **figures: float) -> None: ...

    def stage(self, name: str, done: Done | None) -> None: ...

    def say(self, text: str) -> None: ...


def job(settings: Recipe, profile: str) -> Job:
    """Check every name before any work is done, and open the data source."""
    device = device_profiles.load_profile(profile).with_edits(settings.edits)
    names = [("student", settings.distil.student)]
    if settings.teacher.name != "none":
        names.append(("teacher", settings.teacher.name))
        names += [("teacher", other.partition("@")[0]) for other in settings.teacher.others]
    for role, name in names:
        if name not in model_specs.names():
            from edgekd.networks import builders  # torch: only for a name without a file in models/

            builders.check_known(name, role)
    if settings.teacher.name != "none":
        for name in (settings.teacher.name, *settings.teacher.others):
            licences.check_teacher(model_specs.spec(name.partition("@")[0]))
    source = source_registry.open_all(settings.data)
    if settings.data.unlabelled:
        without_labels(settings)
    if source.labels is None:
        loss_catalogue.check(
            settings.distil.losses,
            len({item.label for item in source.items() if item.split != UNLABELLED}),
        )
    else:
        several_labels(settings, len(source.labels))
    made = Job(settings, device, source)
    licences.check_use(provenance.network_terms(made, {}), settings.card)
    return made


def without_labels(settings: Recipe) -> None:
    """Raise RecipeError for what cannot use images without labels."""
    if settings.teacher.name == "none" or settings.distil.logs:
        raise RecipeError(
            "data.unlabelled needs a teacher that says what the images show",
            "name a teacher, or leave it out",
        )
    if settings.distil.answers == "corrected":
        raise RecipeError(
            'data.unlabelled needs an answer about every view, and distil.answers = "corrected" has not',
            'use distil.answers = "cached" or "live"',
        )
    if settings.teacher.others and settings.distil.labels != "withheld":
        raise RecipeError(
            "teacher.others are weighed by who is right, which is not known of data.unlabelled",
            "set distil.labels=withheld, which weighs them by how sure they are, or name one teacher",
        )


def several_labels(settings: Recipe, labels: int) -> None:
    """Raise RecipeError for what is not defined where an image may have several labels."""
    loss_catalogue.check(settings.distil.losses, labels, "many")
    one = "is defined on one class an image, and these images may have several labels"
    if settings.teacher.others:
        raise RecipeError(
            f"teacher.others: weighing teachers by their confidence {one}", "name one teacher"
        )
    if settings.distil.answers == "corrected":
        raise RecipeError(
            f'distil.answers = "corrected" {one}', 'use distil.answers = "cached" or "live"'
        )
    if settings.distil.logs:
        raise RecipeError(
            f"distil.logs: a log of probabilities that sum to 1 {one}",
            "train from the teacher itself",
        )


def default_name(job: Job) -> str:
    """DATA-STUDENT-PROFILE, with nothing in it that a file system or a shell minds."""
    parts = (Path(job.source.name).name, job.recipe.distil.student, job.profile.name)
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", part).strip("._") or "data" for part in parts)


def build(
    job: Job, out: Path, shared: Path | None, until: str | None, watcher: Watcher
) -> tuple[dict[str, Any], list[str]]:
    """Run the stages and publish. Returns report.json's body and what failed (empty when the build is good)."""
    from edgekd.app import pack_bundle as papers
    from edgekd.app import why as explaining
    from edgekd.reporting import out_folder, report_body  # numpy and the stages' types

    store = Store(out, shared)
    with store.lock():
        store.publish("recipe.toml", recipe.to_toml(job.recipe).encode())
        if until not in BEFORE_TRAINING:
            checked = student_check.before_build(
                job.student, job.recipe, job.profile, out / "check.json"
            )
            store.publish("check.json", facts_json(checked))
            student_check.refuse(checked)
        done = run(job, store, until, watcher.progress, watcher.stage, watcher.say)
        body = out_folder.with_results(out, report_body.build_report(job, done))
        blocks = papers.blocks(job, done)
        body |= blocks.to_json()
        why = explaining.known(store, done, job.recipe.qat, job.recipe.seed)
        if why is not None:
            body["why"] = why  # `edgekd report --why` was asked of this very network before
        failed = body["gates"] = report_body.gates(job, body) + blocks.gates(job.recipe.card)
        _publish(store, job, done, body, blocks)
    return body, failed


def follow(job: Job, out: Path, shared: Path | None, until: str | None) -> None:
    """Take part in a build whose main process is another one: train with it, write nothing."""
    run(job, Store(out, shared), until)


def _publish(
    store: Store, job: Job, done: Mapping[str, Done], body: dict[str, Any], blocks: Blocks
) -> None:
    """Write the contract's files. The model is called model.tflite only when its certificate passed."""
    from edgekd.app import pack_bundle as papers
    from edgekd.bundle import archive
    from edgekd.evaluation.examples import choose
    from edgekd.proof.golden import golden_npz
    from edgekd.reporting.html_report import page

    dataset: Dataset = load(done, "data")
    files: dict[str, bytes] = {
        "labels.txt": "".join(f"{name}\n" for name in dataset.classes).encode(),
        "lineage.json": facts_json(to_json(provenance.lineage(job, done))),
    }
    if "export" in done:
        files["model.onnx"] = bytes(load(done, "export").qdq)
    if "certify" in done:
        certificate = load(done, "certify").body
        name = "model.tflite" if certificate["passed"] else "uncertified.tflite"
        body["artifact"]["path"] = name
        files[name] = bytes(load(done, "convert").tflite)
        files["certificate.json"] = facts_json(certificate)
        if certificate["passed"] and job.profile.mapper == "edgetpu":
            files |= _compiled(files[name], job.profile, body["device"])
        files["golden.npz"] = golden_npz(
            load(done, "inputs"), load(done, "evaluate"), load(done, "distil")
        )
    if "bench" in done:
        files["bench/local.json"] = facts_json(load(done, "bench").body)
    examples = (
        choose(
            dataset, load(done, "inputs"), load(done, "evaluate"), saliency=load(done, "saliency")
        )
        if "evaluate" in done
        else []
    )
    bundled = papers.bundle_of(job, done, body, blocks, examples)
    if bundled:
        body["bundle"] = {
            "sha256": papers.head(bundled),
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


def _compiled(model: bytes, profile: DeviceProfile, device: dict[str, Any]) -> dict[str, bytes]:
    """Both output files of edgetpu_compiler, where it is on PATH; what it said goes into the report's device block."""
    from edgekd.assessment.edgetpu import compiled_file, edgetpu_compiler
    from edgekd.tflite.flatbuffer import read

    program = edgetpu_compiler.find()
    if program is None:
        device["compiler"] = None  # what maps is then predicted, and mapped.origin says so
        return {}
    done = edgetpu_compiler.compile_model(model, program, **profile.compiler)
    device["compiler"] = {
        **done.log.to_json(),
        **compiled_file.read_back(read(done.model)).to_json(),
    }
    return {"model_edgetpu.tflite": done.model, "model_edgetpu.log": done.log_text.encode()}
