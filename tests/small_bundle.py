"""A small real build with a bundle, for tests of the bundle and of its samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgekd.app import cli
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
