"""The check of `edgekd verify` on the files in number formats other than int8."""

from __future__ import annotations

import numpy as np

from edgekd.app.published_files import PublishedFiles
from edgekd.core.artifacts import sha256
from edgekd.core.errors import DeviceError, ModelFileError
from edgekd.proof.companion_files import AGAIN
from edgekd.proof.failures import Failures
from edgekd.tflite import real_runner

IMAGES = 4  # golden images that each file runs on; int16 kernels are slow


def formats(files: PublishedFiles, failures: Failures) -> str:
    """Each file is the one that report.json names, and a runtime runs it on golden images."""
    named = {row.path: row.sha256 for row in files.report.accuracy.formats}
    for path, data in files.others.items():
        found = sha256(data)
        if found != named[path]:
            wanted = f"sha256 {named[path][:16]}"
            failures.add("formats", "file", path, wanted, f"sha256 {found[:16]}", AGAIN)
        else:
            _run(path, data, files, failures)
    return f"beside int8: {', '.join(files.others) or 'nothing'}"


def _run(path: str, data: bytes, files: PublishedFiles, failures: Failures) -> None:
    golden = files.golden
    shown, count = golden["inputs"][:IMAGES], len(files.bound.labels)
    wanted = f"numbers of {count} classes"
    try:
        found = real_runner.answers(data, shown, golden["mean"].tolist(), golden["std"].tolist())
    except (ModelFileError, DeviceError) as error:
        failures.add("formats", "file", path, wanted, error.what, error.next_step)
        return
    if found.shape != (len(shown), count) or not np.isfinite(found).all():
        told = f"{list(found.shape)}, finite: {bool(np.isfinite(found).all())}"
        failures.add("formats", "file", path, wanted, told, AGAIN)
