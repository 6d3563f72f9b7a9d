"""`edgekd verify`."""

from __future__ import annotations

from pathlib import Path

from edgekd.app.arguments import VerifyCommand
from edgekd.app.printing import print_json
from edgekd.app.verify import verify
from edgekd.core.errors import GateFailed


def run(command: VerifyCommand) -> int:
    """Verify, and show each check. Raises GateFailed when one failed."""
    checks = verify(Path(command.folder))
    failed = [check["check"] for check in checks if not check["passed"]]
    if command.json:
        print_json({"schema": "edgekd.verify/1", "passed": not failed, "checks": checks})
    else:
        for check in checks:
            print(f"{'ok    ' if check['passed'] else 'FAILED'} {check['check']}: {check['found']}")
    if failed:
        raise GateFailed(
            f"{command.folder}: {', '.join(failed)} failed",
            "build it again, or fetch the files again",
        )
    return 0
