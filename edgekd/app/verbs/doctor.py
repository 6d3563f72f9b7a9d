"""`edgekd doctor`."""

from __future__ import annotations

from edgekd.app import doctor
from edgekd.app.arguments import DoctorCommand
from edgekd.app.printing import print_json


def run(command: DoctorCommand) -> int:
    """Show every check. Returns 1 when something that is not optional is missing."""
    checks = doctor.examine()
    if command.json:
        print_json(checks)
    else:
        for check in checks:
            print(f"{'ok     ' if check['ok'] else 'MISSING'} {check['what']}: {check['found']}")
    return 0 if all(check["ok"] or check["optional"] for check in checks) else 1
