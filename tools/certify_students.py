"""Builds every student of models/ down to its certificate, and prints a Markdown table.

    python tools/certify_students.py --data DIR --px 96 --epochs 2 --qat-epochs 1
    python tools/certify_students.py --calibrated --px 64

By default each student is one build without a teacher, as `edgekd build --until certify` makes it.
With --calibrated a student has random weights and calibrated ranges, and nothing is trained.

A finished row is kept in --out and is used again while its settings and the code are the same, so
that a run that was stopped continues where it was. When EdgeKD refuses a student, its row gives the
message. Exits 1 unless all students are certified.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgekd.app import build
from edgekd.app.console import Console
from edgekd.core.artifacts import LiteModel, QuantNetwork, sha256
from edgekd.core.errors import EdgeKDError
from edgekd.core.records import Record, from_json, present, to_json
from edgekd.export.onnx_export import export
from edgekd.export.tflite_convert import convert
from edgekd.networks import builders
from edgekd.proof.certificate import Published, certify
from edgekd.proof.certificate_record import CertificateBody, CheckedOps, Edges
from edgekd.quantization import qat_network
from edgekd.settings import model_specs, recipe
from edgekd.settings.device_profiles import load_profile
from edgekd.settings.model_specs import ModelSpec
from edgekd.tflite import runtime
from edgekd.tflite.int8_rules import Int8Rules

CLASSES = 3  # of a network that is only calibrated
CALIBRATION = 16  # images; the ranges of random weights hardly change with more of them
TESTED = 4  # images; the check of single operators looks at four
HEAD = (
    "| student | ranges identical | codes identical | op-local LSB "
    "| agreement, top-1 float -> int8 | ops | verdict |\n|---|---|---|---|---|---|---|"
)


class Figures(Record, frozen=True, kw_only=True):
    """The figures of a certificate that the table shows.

    `ranges`, `codes`: how many are identical, and how many there are. `exact`: the share of
    elements without a difference in the check of single operators. `top1`: of the float student
    and of the .tflite. `agreement` and `top1` are None for a network that was not trained.
    """

    ops: dict[str, int]
    ranges: tuple[int, int]
    codes: tuple[int, int]
    max_lsb: int
    exact: float
    structure: CheckedOps | None
    edges: Edges | None
    agreement: float | None = None
    top1: tuple[float, float] | None = None


class Verdict(Record, frozen=True):
    """The outcome for a student. `figures` is None for a student that EdgeKD refuses."""

    passed: bool
    reason: str = ""
    figures: Figures | None = None


class Row(Record, frozen=True):
    """One row of the table. `key` is a hash of everything that decides it."""

    key: str
    student: str
    seconds: float
    verdict: Verdict


def students(chosen: Sequence[str]) -> list[str]:
    """The names given, or every student of models/. Names without a model file are kept."""
    return list(chosen) or [
        name for name in model_specs.names() if "student" in model_specs.spec(name).roles
    ]


def trained(name: str, arguments: argparse.Namespace) -> Verdict:
    """Build a student without a teacher, until its certificate."""
    settings = [
        f"data.input_px={arguments.px}",
        f"distil.epochs={arguments.epochs}",
        f"qat.epochs={arguments.qat_epochs}",
        *arguments.set,
    ]
    own = {
        "data.source": arguments.data,
        "teacher.name": "none",
        "distil.student": name,
        "seed": arguments.seed,
    }
    job = build.job(recipe.load(None, settings, own), arguments.profile)
    out = arguments.out / f"{name}-{arguments.profile}-{arguments.px}"
    with Console() as console:
        report = build.build(job, out, arguments.out / "store", "certify", console)
    artifact, accuracy = present(report.artifact), present(report.accuracy)
    assert artifact is not None  # a build until the certificate has both
    assert accuracy is not None
    top1 = {stage.stage: stage.top1 for stage in accuracy.waterfall}
    path = out / "certificate.json"
    body = from_json(CertificateBody, json.loads(path.read_bytes()), str(path))
    found = figures(
        body, artifact.ops, body.end_to_end.argmax_agreement, (top1["student"], top1["tflite"])
    )
    return Verdict(body.passed, reason(body), found)


def calibrated(name: str, arguments: argparse.Namespace) -> Verdict:
    """Certify a student with random weights and calibrated ranges.

    The classes that it answers mean nothing, so that the end-to-end check does not count.
    """
    spec, rng = model_specs.spec(name), np.random.default_rng(arguments.seed)
    images = rng.integers(0, 256, (CALIBRATION, arguments.px, arguments.px, 3), np.uint8)
    network, qnet = quantized(spec, arguments.profile, images)
    exported = export(qnet, builders.create(spec.arch, qnet.options))
    model = convert(exported)
    images = rng.integers(0, 256, (TESTED, arguments.px, arguments.px, 3), np.uint8)
    published = Published(
        exported.qdq, [str(label) for label in range(CLASSES)], golden(qnet, model, images)
    )
    body = certify(qnet, model, images, qat_network.predict(network, images), published=published)
    judged = [failure for failure in body.failures if failure.check != "end_to_end"]
    body = msgspec.structs.replace(body, failures=judged)
    return Verdict(not judged, reason(body), figures(body, model.facts["ops"]))


def quantized(
    spec: ModelSpec, profile_name: str, images: npt.NDArray[np.uint8]
) -> tuple[qat_network.QatNetwork, QuantNetwork]:
    """A student of random weights, calibrated on uint8 images [n, px, px, 3], and its artifact."""
    profile = load_profile(profile_name)
    options = {"num_classes": CLASSES, **({"edits": profile.edits} if profile.edits else {})}
    mean, std = list(spec.mean or (0.5,) * 3), list(spec.std or (0.5,) * 3)
    px = images.shape[1]
    rules = Int8Rules.from_dict(profile.rules)
    network = qat_network.prepare(builders.create(spec.arch, options), px, mean, std, rules)
    qat_network.calibrate(network, [builders.normalised(images, mean, std)])
    done = qat_network.finish(network)
    return network, QuantNetwork(
        arch=spec.arch,
        options=options,
        px=px,
        mean=mean,
        std=std,
        history=[],
        rules=network.rules.to_dict(),
        ranges=done.ranges,
        layers=done.layers,
        facts={},
        state=done.state,
    )


def golden(qnet: QuantNetwork, model: LiteModel, images: npt.NDArray[np.uint8]) -> bytes:
    """A golden.npz of random images. Their labels are the classes that the model answers."""
    codes, buffer = runtime.run(model.tflite, images), io.BytesIO()
    np.savez(
        buffer,
        inputs=images,
        logits_int8=codes,
        labels=codes.argmax(1),
        mean=np.asarray(qnet.mean, np.float32),
        std=np.asarray(qnet.std, np.float32),
    )
    return buffer.getvalue()


def figures(
    body: CertificateBody,
    ops: dict[str, int],
    agreement: float | None = None,
    top1: tuple[float, float] | None = None,
) -> Figures:
    """The figures of a certificate. `ops`: the operators of the file, with their counts."""
    return Figures(
        ops=ops,
        ranges=(body.ranges.identical, body.ranges.tensors),
        codes=(
            body.weights.identical_codes + body.biases.identical_codes,
            body.weights.total_codes + body.biases.total_codes,
        ),
        max_lsb=body.op_local.max_lsb,
        exact=body.op_local.share_exact,
        structure=body.structure,
        edges=body.edges,
        agreement=agreement,
        top1=top1,
    )


def reason(body: CertificateBody) -> str:
    """The first failure of a certificate, or "" if there is none."""
    if not body.failures:
        return ""
    first = body.failures[0]
    return f"{first.check}: {first.place} is {first.found}, expected {first.expected}"


def settings_of(name: str, arguments: argparse.Namespace) -> str:
    """A hash of everything that decides a row: its settings, and the code of the package."""
    package = Path(qat_network.__file__).parents[1]
    code = b"".join(path.read_bytes() for path in sorted(package.rglob("*.py")))
    settings = {
        key: str(value) for key, value in vars(arguments).items() if key not in ("out", "students")
    }
    return sha256(json.dumps([name, settings, sha256(code)], sort_keys=True).encode())


def made(name: str, arguments: argparse.Namespace) -> Row:
    """The row of a student: from its file if the file has the same key, or else a new one."""
    kind = "calibrated" if arguments.calibrated else "trained"
    path, key = arguments.out / f"{kind}-{name}.json", settings_of(name, arguments)
    if path.is_file() and (kept := json.loads(path.read_bytes())).get("key") == key:
        return from_json(Row, kept, str(path))
    print(f"== {name}", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        verdict = calibrated(name, arguments) if arguments.calibrated else trained(name, arguments)
    except EdgeKDError as error:
        verdict = Verdict(False, f"refused: {error.what}")
    row = Row(key, name, round(time.monotonic() - start, 1), verdict)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(to_json(row), indent=1), encoding="utf-8")
    return row


def line(row: Row) -> str:
    """One line of the table."""
    verdict, found = row.verdict, row.verdict.figures
    if found is None:
        return f"| {row.student} | | | | | | **{verdict.reason}** |"
    ops = ", ".join(
        f"{count} {op}" for op, count in sorted(found.ops.items(), key=lambda item: -item[1])
    )
    top1 = "" if found.top1 is None else " -> ".join(f"{100 * value:.1f}" for value in found.top1)
    agreement = "" if found.agreement is None else f"{100 * found.agreement:.2f} %"
    said = "certified" if verdict.passed else f"**{verdict.reason}**"
    return (
        f"| {row.student} | {found.ranges[0]}/{found.ranges[1]} "
        f"| {found.codes[0]:,}/{found.codes[1]:,} "
        f"| {found.max_lsb} ({100 * found.exact:.2f} % exact) | {agreement} {top1} "
        f"| {ops} | {said} |"
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    made.add_argument(
        "students", nargs="*", help="names of students (default: all students of models/)"
    )
    made.add_argument("--data", default="phantom:1600", help="as for edgekd build")
    made.add_argument("--calibrated", action="store_true", help="random weights, no training")
    made.add_argument("--profile", default="pi4")
    made.add_argument("--px", type=int, default=96)
    made.add_argument("--epochs", type=int, default=2)
    made.add_argument("--qat-epochs", type=int, default=1)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--set", action="append", default=[], metavar="stage.key=value")
    made.add_argument("--out", type=Path, default=Path("builds/students"))
    return made


def main() -> int:
    arguments = parser().parse_args()
    rows = [made(name, arguments) for name in students(arguments.students)]
    print(HEAD)
    print("\n".join(line(row) for row in rows))
    passed = sum(row.verdict.passed for row in rows)
    print(
        f"\n{passed} of {len(rows)} certified, {arguments.px} px, profile {arguments.profile}, "
        f"{'calibrated only' if arguments.calibrated else arguments.data}, seed {arguments.seed}."
    )
    return 0 if passed == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
