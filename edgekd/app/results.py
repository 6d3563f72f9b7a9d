"""What the functions of the Python API return."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.assessment.slowness import Slowness
from edgekd.core.errors import EdgeKDError, GateFailed
from edgekd.core.records import Record

if TYPE_CHECKING:
    from edgekd.reporting.comparison_record import Comparison
    from edgekd.reporting.report_record import Report


@dataclass(frozen=True)
class BuildResult:
    """A build. `report`: None when a gate failed before the first stage was published."""

    out: Path
    report: Report | None
    failed: tuple[str, ...] = ()
    next_step: str = ""

    @property
    def passed(self) -> bool:
        """Whether every gate passed."""
        return not self.failed

    def raise_if_failed(self) -> None:
        """Raise GateFailed when a gate failed."""
        if self.failed:
            raise GateFailed("\n  ".join(self.failed), self.next_step)


@dataclass(frozen=True)
class BenchFailure:
    """A profile that could not be measured, and why."""

    profile: str
    error: EdgeKDError


@dataclass(frozen=True)
class BenchResult:
    """Measurements, one for each profile that could be measured.

    `files`: the files written. `folder`: where the measurements are kept, None for nowhere.
    """

    runs: tuple[dict[str, Any], ...] = ()
    files: tuple[Path, ...] = ()
    failed: tuple[BenchFailure, ...] = ()
    folder: Path | None = None


@dataclass(frozen=True)
class ReportResult:
    """One report, a comparison of several, or the slowest operators of each."""

    folders: tuple[Path, ...]
    reports: tuple[Report, ...] = ()
    comparison: Comparison | None = None
    slow: tuple[Slowness, ...] = ()

    @property
    def body(self) -> Record | tuple[Record, ...]:
        """What `edgekd report --json` prints."""
        if self.comparison is not None:
            return self.comparison
        bodies: tuple[Record, ...] = self.slow or self.reports
        return bodies[0] if len(bodies) == 1 else bodies

    def html(self) -> str:
        """The report, or the comparison, as a web page that needs no other file."""
        if self.comparison is not None:
            from edgekd.reporting import comparison_page

            return comparison_page.page(self.comparison)
        from edgekd.reporting import html_report

        return html_report.page(self.reports[0])
