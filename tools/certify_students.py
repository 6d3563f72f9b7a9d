"""Every student of models/ down to its certificate: a short QAT on real images, and a Markdown table of what came of it.

    python tools/certify_students.py --data DIR --px 96 --epochs 2 --qat-epochs 1
    python tools/certify_students.py --calibrated --px 64          random weights, calibrated ranges, no training

Each student is a build of its own, without a teacher, as `edgekd build --until certify` makes it. Rows are kept in --out
as they are made; a row whose settings are the same is not made again, so the script resumes where it was stopped, and
builds resume inside their store. A student that is refused is a row with the refusal's own words. Exit code 1 unless all
of them certify.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.app import build
from edgekd.app.console import Console
from edgekd.core.artifacts import LiteModel, QuantNetwork, sha256
from edgekd.core.errors import EdgeKDError
from edgekd.core.records import present, to_json
from edgekd.export.onnx_export import export
from edgekd.export.tflite_convert import convert
from edgekd.networks import builders
from edgekd.proof.certificate import Published, certify
from edgekd.quantization import qat_network
from edgekd.settings import model_specs, recipe
from edgekd.settings.device_profiles import load_profile
from edgekd.tflite import runtime
from edgekd.tflite.int8_rules import Int8Rules

Row = dict[str, Any]
CLASSES = 3  # of a network that is only calibrated
CALIBRATION, TESTED = (
    16,
    4,
)  # images: ranges of random weights settle at once, and op-local looks at four


def students(chosen: Sequence[str]) -> list[str]:
    """The names given, or every student of models/; a name without a file is tried all the same."""
    return list(chosen) or [
        name for name in model_specs.names() if "student" in model_specs.spec(name).roles
    ]


def trained(name: str, arguments: argparse.Namespace) -> Row:
    """A whole build without a teacher, until its certificate."""
    settings = [
        f"data.input_px={arguments.px}",
        f"distil.epochs={arguments.epochs}",
        f"qat.epochs={arguments.qat_epochs}",
        *arguments.set,
    ]
    job = build.job(
        recipe.load(
            None,
            settings,
            {
                "data.source": arguments.data,
                "teacher.name": "none",
                "distil.student": name,
                "seed": arguments.seed,
            },
        ),
        arguments.profile,
    )
    out = arguments.out / f"{name}-{arguments.profile}-{arguments.px}"
    with Console() as console:
        report = build.build(job, out, arguments.out / "store", "certify", console)
    ops = present(report.artifact).ops
    found = row(json.loads((out / "certificate.json").read_bytes()), ops)
    top1 = {stage.stage: stage.top1 for stage in present(report.accuracy).waterfall}
    return {
        **found,
        "agreement": found["agreement"],
        "top1": [top1[stage] for stage in ("student", "tflite")],
    }


def calibrated(name: str, arguments: argparse.Namespace) -> Row:
    """Random weights under calibrated ranges. Their argmax means nothing, so answers are not judged."""
    profile = load_profile(arguments.profile)
    options = {"num_classes": CLASSES, **({"edits": profile.edits} if profile.edits else {})}
    spec, rng = model_specs.spec(name), np.random.default_rng(arguments.seed)
    images = rng.integers(0, 256, (CALIBRATION, arguments.px, arguments.px, 3), np.uint8)
    mean, std = list(spec.mean or (0.5,) * 3), list(spec.std or (0.5,) * 3)
    network = qat_network.prepare(
        builders.create(spec.arch, options),
        arguments.px,
        mean,
        std,
        Int8Rules.from_dict(profile.rules),
    )
    qat_network.calibrate(network, [builders.normalised(images, mean, std)])
    done = qat_network.finish(network)
    qnet = QuantNetwork(
        arch=spec.arch,
        options=options,
        px=arguments.px,
        mean=mean,
        std=std,
        history=[],
        rules=network.rules.to_dict(),
        ranges=done.ranges,
        layers=done.layers,
        facts={},
        state=done.state,
    )
    exported = export(qnet, builders.create(spec.arch, options))
    model = convert(exported)
    images = rng.integers(0, 256, (TESTED, arguments.px, arguments.px, 3), np.uint8)
    published = Published(
        exported.qdq, [str(label) for label in range(CLASSES)], golden(qnet, model, images)
    )
    body = to_json(
        certify(qnet, model, images, qat_network.predict(network, images), published=published)
    )
    judged = [failure for failure in body["failures"] if failure["check"] != "end_to_end"]
    return {
        **row({**body, "passed": not judged, "failures": judged}, model.facts["ops"]),
        "agreement": None,
        "top1": None,
    }


def golden(qnet: QuantNetwork, model: LiteModel, images: npt.NDArray[np.uint8]) -> bytes:
    """A golden.npz of images without meaning: their labels are the answers' own."""
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


def row(body: dict[str, Any], ops: dict[str, int]) -> Row:
    """What the table says of a certificate."""
    first = body["failures"][0] if body["failures"] else {}
    return {
        "passed": bool(body["passed"]),
        "ops": ops,
        "agreement": body["end_to_end"]["argmax_agreement"],
        "ranges": [body["ranges"]["identical"], body["ranges"]["tensors"]],
        "codes": [
            sum(body[part][key] for part in ("weights", "biases"))
            for key in ("identical_codes", "total_codes")
        ],
        "max_lsb": body["op_local"]["max_lsb"],
        "exact": body["op_local"]["share_exact"],
        "structure": (body["structure"] or {}).get("ops"),
        "edges": [(body["edges"] or {}).get(key) for key in ("edges", "max_lsb")],
        "reason": f"{first['check']}: {first.get('tensor', first.get('op'))} is {first['found']}, expected "
        f"{first['expected']}"
        if first
        else "",
    }


def settings_of(name: str, arguments: argparse.Namespace) -> str:
    """What decides a row: its settings and the code that makes it."""
    code = b"".join(
        path.read_bytes() for path in sorted(Path(qat_network.__file__).parents[1].rglob("*.py"))
    )
    said = {
        key: str(value) for key, value in vars(arguments).items() if key not in ("out", "students")
    }
    return sha256(json.dumps([name, said, sha256(code)], sort_keys=True).encode())


def made(name: str, arguments: argparse.Namespace) -> Row:
    """The row of a student: from its file, or made now."""
    kind = "calibrated" if arguments.calibrated else "trained"
    path, key = arguments.out / f"{kind}-{name}.json", settings_of(name, arguments)
    if path.is_file() and (kept := json.loads(path.read_bytes()))["key"] == key:
        return kept
    print(f"== {name}", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        found = calibrated(name, arguments) if arguments.calibrated else trained(name, arguments)
    except EdgeKDError as error:
        found = {"passed": False, "refused": True, "reason": f"refused: {error.what}"}
    found = {"key": key, "student": name, "seconds": round(time.monotonic() - start, 1), **found}
    arguments.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def line(found: Row) -> str:
    """One line of the table."""
    if found.get("refused"):
        return f"| {found['student']} | | | | | | **{found['reason']}** |"
    ops = ", ".join(
        f"{count} {op}" for op, count in sorted(found["ops"].items(), key=lambda item: -item[1])
    )
    top1 = (
        ""
        if found["top1"] is None
        else " -> ".join(f"{100 * value:.1f}" for value in found["top1"])
    )
    agreement = "" if found["agreement"] is None else f"{100 * found['agreement']:.2f} %"
    verdict = "certified" if found["passed"] else f"**{found['reason']}**"
    return (
        f"| {found['student']} | {found['ranges'][0]}/{found['ranges'][1]} | {found['codes'][0]:,}/{found['codes'][1]:,} | "
        f"{found['max_lsb']} ({100 * found['exact']:.2f} % exact) | {agreement} {top1} | {ops} | {verdict} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "students", nargs="*", help="names; all students of models/ when none is given"
    )
    parser.add_argument("--data", default="phantom:1600", help="as for edgekd build")
    parser.add_argument("--calibrated", action="store_true", help="random weights, no training")
    parser.add_argument("--profile", default="pi4")
    parser.add_argument("--px", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--qat-epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="stage.key=value")
    parser.add_argument("--out", type=Path, default=Path("builds/students"))
    arguments = parser.parse_args()
    rows = [made(name, arguments) for name in students(arguments.students)]
    print(
        "| student | ranges identical | codes identical | op-local LSB | agreement, top-1 float -> int8 | ops | verdict |"
    )
    print("|---|---|---|---|---|---|---|")
    print("\n".join(line(found) for found in rows))
    passed = sum(found["passed"] for found in rows)
    print(
        f"\n{passed} of {len(rows)} certified, {arguments.px} px, profile {arguments.profile}, "
        f"{'calibrated only' if arguments.calibrated else arguments.data}, seed {arguments.seed}."
    )
    return 0 if passed == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
