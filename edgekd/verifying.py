"""`edgekd verify`: check an out folder again from the bytes that lie there, trusting nothing that it says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgekd import bundle_checks, lite
from edgekd.artifacts import sha256
from edgekd.bench import read_model
from edgekd.errors import ModelFileError

Check = dict[str, Any]


def read_json(path: Path, schema: str) -> dict[str, Any]:
    """A published JSON of the given schema. Raises ModelFileError naming the file and what is wrong with it."""
    try:
        body = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelFileError(f"{path} does not exist", "name the out folder of a finished `edgekd build`") from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} is not readable JSON: {error}", "build it again") from None
    if not isinstance(body, dict) or body.get("schema") != schema:
        found = body.get("schema") if isinstance(body, dict) else type(body).__name__
        raise ModelFileError(f"{path}: expected schema {schema}, found {found!r}", "build it with this edgekd")
    return body


def verify(folder: Path) -> list[Check]:
    """Every check of an out folder or a bundle as {"check", "passed", "found"}.

    Raises ModelFileError when a file is missing or unreadable.
    """
    if bundle_checks.is_bundle(folder):
        return bundle_checks.verify(folder)
    folder = folder.parent if folder.is_file() else folder
    certificate = read_json(folder / "certificate.json", "edgekd.certificate/1")
    report = read_json(folder / "report.json", "edgekd.report/1")
    model = read_model(folder / "model.tflite")
    digest = sha256(model)
    facts = lite.describe(model)
    checks = [
        _check("certificate", bool(certificate["passed"]) and not certificate["failures"],
               "passed" if certificate["passed"] else f"{len(certificate['failures'])} failures"),
        _check("model hash", digest == certificate["model_sha256"] == report["artifact"]["sha256"], digest),
        _check("full integer", facts["full_integer"], str(facts["ops"])),
        _check("labels", _labels(folder) == report["data"]["classes"], ", ".join(_labels(folder))),
    ]
    return checks + _golden(folder / "golden.npz", model)


def _labels(folder: Path) -> list[str]:
    try:
        return (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _golden(path: Path, model: bytes) -> list[Check]:
    """Run the stored inputs and compare the codes: the same runtime gives the same bytes."""
    try:
        with np.load(path, allow_pickle=False) as golden:
            inputs, codes = golden["inputs"], golden["logits_int8"]
    except Exception as error:  # numpy raises many types for a torn file; each means the same here
        raise ModelFileError(f"{path} cannot be read: {error}", "build it again") from None
    answers = lite.run(model, inputs)
    worst = int(np.abs(answers.astype(int) - codes.astype(int)).max())
    same = float((answers.argmax(1) == codes.argmax(1)).mean())
    return [_check("golden answers", same == 1.0 and worst == 0,
                   f"{len(inputs)} images, argmax agreement {same:.1%}, largest difference {worst} LSB")]


def _check(name: str, passed: bool, found: str) -> Check:
    return {"check": name, "passed": passed, "found": found}
