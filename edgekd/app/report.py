"""`edgekd report`: reads reports, compares builds, and explains losses and latency."""

from __future__ import annotations

import os
from pathlib import Path

from edgekd.app import why
from edgekd.app.arguments import Report
from edgekd.app.progress import silent, steps_to
from edgekd.app.results import ReportResult
from edgekd.assessment import slowness
from edgekd.core.errors import RecipeError
from edgekd.reporting import comparison
from edgekd.reporting.out_folder import read_report
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
        return ReportResult(folders, comparison=comparison.compare(comparison.read(folders)))
    folder = folders[0]
    if published.is_search(folder):
        return ReportResult(folders, search=published.read(folder))
    return ReportResult(folders, (read_report(folder),))


def _why(asked: Report, folders: tuple[Path, ...]) -> ReportResult:
    if len(folders) != 1:
        raise RecipeError(
            f"--why takes one folder, found {len(folders)}", "run it on each build in turn"
        )
    store = None if asked.store is None else Path(asked.store)
    explained = why.explain(folders[0], store, steps_to(asked.progress or silent))
    return ReportResult(folders, (explained,))
