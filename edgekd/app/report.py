"""`edgekd report`: reads reports, compares builds, and explains losses and latency."""

from __future__ import annotations

import os
from pathlib import Path

from edgekd.app import why
from edgekd.app.arguments import Report
from edgekd.app.progress import Note, silent, steps_to
from edgekd.app.results import ReportResult
from edgekd.assessment import slowness
from edgekd.core.errors import RecipeError
from edgekd.core.files import is_file
from edgekd.reporting import build_folders, comparison
from edgekd.reporting.out_folder import read_report
from edgekd.reporting.text import plural
from edgekd.search import published


def run(asked: Report) -> ReportResult:
    """Read what the arguments name. Raises EdgeKDError for a folder without a report.

    `why` analyses the build in one folder, and writes the answer into its report.
    """
    given = asked.folders
    names = [given] if isinstance(given, str | os.PathLike) else list(given)
    folders = tuple(Path(name) for name in names)
    if not folders:
        raise RecipeError("report needs a folder, and none was given", "name an out folder")
    if asked.why:
        return _why(asked, folders)
    if asked.why_slow:
        return ReportResult(folders, slow=tuple(slowness.rank(folder) for folder in folders))
    if len(folders) > 1:
        return _several(asked, folders)
    folder = folders[0]
    if published.is_search(folder):
        return ReportResult(folders, search=published.read(folder))
    _look_inside(folder)
    return ReportResult(folders, (read_report(folder),))


def _several(asked: Report, folders: tuple[Path, ...]) -> ReportResult:
    """The builds among the folders. What is no build is named and left out."""
    found = build_folders.sorted_out(folders)
    if found.note:
        (asked.progress or silent)(Note(found.note))
    if len(found.builds) == 1:
        return ReportResult(found.builds, (read_report(found.builds[0]),))
    compared = comparison.compare(comparison.read(found.builds), found.skipped)
    return ReportResult(found.builds, comparison=compared)


def _look_inside(folder: Path) -> None:
    """Raise RecipeError for a folder that is no build and has builds inside."""
    inside = 0 if is_file(folder / build_folders.REPORT) else build_folders.inside(folder)
    if inside:
        raise RecipeError(
            f"{folder} is no build; {plural(inside, 'folder')} in it "
            f"{'is one' if inside == 1 else 'are builds'}",
            f"edgekd report {folder}/*",
        )


def _why(asked: Report, folders: tuple[Path, ...]) -> ReportResult:
    if len(folders) != 1:
        raise RecipeError(
            f"--why takes one folder, found {len(folders)}", "run it on each build in turn"
        )
    store = None if asked.store is None else Path(asked.store)
    explained = why.explain(folders[0], store, steps_to(asked.progress or silent))
    return ReportResult(folders, (explained,))
