"""`edgekd verify`."""

from __future__ import annotations

from edgekd.app import verify
from edgekd.app.commands import VerifyCommand
from edgekd.app.printing import print_json
from edgekd.core.errors import GateFailed


def run(command: VerifyCommand) -> int:
    """Verify, and show each check. Raises GateFailed when one failed."""
    result = verify.run(command)
    if command.json:
        print_json(result.verification)
    else:
        for row in result.checks:
            print(f"{'ok    ' if row.passed else 'FAILED'} {row.check}: {row.found}")
    if not result.passed:
        failed = ", ".join(row.check for row in result.checks if not row.passed)
        raise GateFailed(f"{command.folder}: {failed} failed", result.next_step)
    return 0
