"""The folders that `edgekd report` is given: builds, and what else a pattern like builds/* finds.

Where several are named, what is no build is left out and named once. A path at which nothing lies
is a slip, which no pattern makes, and is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from edgekd.core.errors import ModelFileError
from edgekd.core.files import exists, is_file, is_folder
from edgekd.reporting.comparison_record import SkippedFolder

REPORT = "report.json"
NAMED = 3  # folders that a message names; it counts the others


@dataclasses.dataclass(frozen=True)
class Folders:
    """The builds, in the order in which they were given, and what was left out."""

    builds: tuple[Path, ...]
    skipped: tuple[SkippedFolder, ...]

    @property
    def note(self) -> str:
        """What was left out, in a sentence; "" for nothing."""
        if not self.skipped:
            return ""
        first = ", ".join(f"{row.name} ({row.why})" for row in self.skipped[:NAMED])
        more = len(self.skipped) - NAMED
        total = len(self.builds) + len(self.skipped)
        return (
            f"note: {len(self.skipped)} of {total} are no finished builds and are left out: "
            f"{first}{f' and {more} more' if more > 0 else ''}"
        )


def sorted_out(folders: Sequence[Path]) -> Folders:
    """The folders that are builds, and the others with the reason.

    Raises ModelFileError for a path at which nothing lies, and when no build is left.
    """
    builds, skipped = [], []
    for folder in folders:
        why = _why_not(folder)
        if why:
            skipped.append(SkippedFolder(str(folder), why))
        else:
            builds.append(folder)
    found = Folders(tuple(builds), tuple(skipped))
    if not builds:
        raise ModelFileError(
            f"none of the {len(folders)} paths is the out folder of a finished build: "
            + ", ".join(f"{row.name} ({row.why})" for row in skipped[:NAMED])
            + (f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""),
            "name out folders of finished builds",
        )
    return found


def _why_not(folder: Path) -> str:
    """Why a path is no build; "" for a build."""
    if is_file(folder / REPORT):
        return ""
    if not exists(folder):
        raise ModelFileError(f"{folder} does not exist", "check the name; ls shows what is there")
    if not is_folder(folder):
        return "a file"
    if is_file(folder / "search.json"):
        return "a search; name it alone"
    return f"no {REPORT}"


def inside(folder: Path) -> int:
    """How many folders directly inside a folder are builds."""
    return sum(is_file(path / REPORT) for path in folder.iterdir()) if is_folder(folder) else 0
