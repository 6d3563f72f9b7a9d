"""`edgekd doctor`."""

from __future__ import annotations

from edgekd.app import doctor
from edgekd.app.commands import DoctorCommand
from edgekd.app.printing import print_json


def run(command: DoctorCommand) -> int:
    """Show what was examined. Returns 1 when something that is not optional is missing."""
    rows = doctor.examine()
    if command.json:
        print_json(rows)
    else:
        for row in rows:
            print(f"{'ok     ' if row.ok else 'MISSING'} {row.what}: {row.found}")
    return 0 if all(row.ok or row.optional for row in rows) else 1
