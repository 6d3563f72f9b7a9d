"""`edgekd verify`: checks an out folder or a bundle again from its bytes.

It trusts nothing that the files say of themselves. The checks of an out folder are in
file_rechecks.py, those of a bundle in edgekd.bundle.verify_bundle.
"""

from __future__ import annotations

from pathlib import Path

from edgekd.app.arguments import Verify
from edgekd.app.file_rechecks import CHECKS, NOT_RUN, RUN_THE_FILE, Check
from edgekd.app.published_files import PublishedFiles, read_files
from edgekd.app.results import VerifyResult
from edgekd.bundle import bundle_paths, verify_bundle
from edgekd.bundle.verify_record import Verification, VerifyCheck
from edgekd.core.files import is_file
from edgekd.proof.certificate_record import Failure
from edgekd.proof.failures import AGAIN, Failures
from edgekd.proof.shape_checks import check_shapes

SHOWN = 3  # failures that a check's sentence names; `failures` has more


def run(asked: Verify) -> VerifyResult:
    """Verify what the arguments name. Raises ModelFileError for a missing or damaged file."""
    folder = Path(asked.folder)
    checks = verify(folder)
    failed = tuple(f"{row.check}: {row.found}" for row in checks if not row.passed)
    return VerifyResult(
        folder,
        Verification(passed=not failed, checks=checks),
        failed=failed,
        next_step="build it again, or fetch the files again" if failed else "",
    )


def verify(folder: Path) -> list[VerifyCheck]:
    """Every check of an out folder (or of a file in it), or of a bundle.

    Raises ModelFileError when a file is missing or damaged.
    """
    if bundle_paths.is_bundle(folder):
        return verify_bundle.verify(folder)
    files = read_files(folder.parent if is_file(folder) else folder)
    shapes = Failures()
    check_shapes(files.graph, shapes)
    return [
        _checked(name, _refuse if shapes.count and name in RUN_THE_FILE else check, files)
        for name, check in CHECKS.items()
    ]


def _refuse(_files: PublishedFiles, failures: Failures) -> str:
    """Take the place of a check that would run a file whose shapes do not fit each other."""
    wanted, found = "shapes that fit each other", "not run: see the check of the form"
    failures.add("shapes", "file", "model.tflite", wanted, found, AGAIN)
    return NOT_RUN


def _checked(name: str, check: Check, files: PublishedFiles) -> VerifyCheck:
    failures = Failures()
    found = check(files, failures)
    if failures.count:
        found = "; ".join(_sentence(row) for row in failures.rows[:SHOWN])
        found += f"; and {failures.count - SHOWN} more" if failures.count > SHOWN else ""
    return VerifyCheck(name, failures.count == 0, found, failures.rows)


def _sentence(row: Failure) -> str:
    return f"{row.place}: expected {row.expected}, found {row.found}"
