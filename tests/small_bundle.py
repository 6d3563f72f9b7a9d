"""A small real build with a bundle, for tests of the bundle and of its samples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from edgekd.app import cli
from edgekd.bundle import archive
from tests.small_build import STUDENT, STUDENT_OPTIONS

Files = dict[str, bytes]
SMALL = [
    "build",
    "--profile",
    "pi4",
    "--data",
    "phantom:120@40",
    "--teacher",
    "none",
    "--student",
    STUDENT,
    *(
        part
        for text in (
            STUDENT_OPTIONS,
            "data.input_px=32",
            "distil.epochs=2",
            "qat.epochs=1",
            "views.per_image=2",
            "bench.runs=5",
            "bench.min_seconds=0.05",
            "data.golden=8",
            "data.calibration=32",
            "certify.max_drop=1",
            "certify.min_agreement=0",
            "card.author=A. N. Author",
        )
        for part in ("--set", text)
    ),
]


def build(folder: Path) -> Path:
    """Build into a folder, which is returned."""
    assert cli.main([*SMALL, "--out", str(folder)]) == 0
    return folder


def body(files: Files, name: str) -> dict[str, Any]:
    return json.loads(files[name])


def reversed_labels(files: Files) -> bytes:
    return b"".join(reversed(files["labels.txt"].splitlines(keepends=True)))


def changed_bundle(out: Path, folder: Path, change: str) -> Path:
    """A copy of the bundle with one thing changed, as a user's mistake would."""
    copy = Path(shutil.copytree(out / "bundle", folder / "copy"))
    contract = json.loads((copy / "deployment.json").read_text())
    if change == "mean":
        contract["input"]["mean"] = [0.485, 0.456, 0.406]
    elif change == "order":
        contract["input"]["order"] = "BGR"
    elif change == "labels":
        (copy / "labels.txt").write_bytes(reversed_labels(archive.read(copy)))
    elif change == "fit":
        contract["input"]["fit"] = "crop"
    (copy / "deployment.json").write_text(json.dumps(contract))
    return copy
