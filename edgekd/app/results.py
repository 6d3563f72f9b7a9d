"""What the functions of the Python API return. Jupyter shows each result as a table.

The figures are in records, whose fields are those of the published JSON: `BuildResult.report` is
report.json, `CheckResult.check` is what `edgekd check --json` prints, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.app import notebook
from edgekd.core.errors import EdgeKDError, GateFailed, ModelFileError
from edgekd.core.records import Record, from_json, present

if TYPE_CHECKING:
    from edgekd.assessment.check_record import DeviceCheck
    from edgekd.assessment.slowness import Slowness
    from edgekd.bundle.verify_record import Verification, VerifyCheck
    from edgekd.device.bench_record import Bench
    from edgekd.evaluation.accuracy_record import StageRow
    from edgekd.proof.certificate_record import CertificateBody
    from edgekd.reporting.comparison_record import Comparison
    from edgekd.reporting.report_record import Report
    from edgekd.search.record import Choice, Search


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A result that can fail.

    `failed`: why, one sentence for each failed gate; empty when nothing failed. `next_step`: what
    to do about it.
    """

    failed: tuple[str, ...] = ()
    next_step: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    def raise_if_failed(self) -> None:
        """Raise GateFailed when something failed."""
        if self.failed:
            raise GateFailed("\n  ".join(self.failed), self.next_step)


@dataclass(frozen=True)
class BuildResult(Judged):
    """A build: the folder with its files, and its report.

    `made` is the report, or None when a gate failed before the first file was written. `file`: the
    .tflite where there is no report, as for a model.onnx that EdgeKD published.
    """

    out: Path
    made: Report | None
    file: Path | None = None

    @property
    def report(self) -> Report:
        """report.json. Raises ModelFileError when a gate stopped the build before it."""
        if self.made is None:
            raise ModelFileError(f"{self.out}: a gate stopped the build", self.next_step)
        return self.made

    @property
    def path(self) -> Path:
        """The .tflite: model.tflite, or uncertified.tflite when its certificate did not pass.

        Raises ModelFileError when the build stopped before it.
        """
        if self.file is not None:
            return self.file
        artifact = present(self.report.artifact)
        if artifact is None:
            raise self._unfinished("a .tflite")
        return self.out / artifact.path

    @property
    def certificate(self) -> CertificateBody:
        """certificate.json. Raises ModelFileError when the build stopped before it."""
        from edgekd.core.store import read_json
        from edgekd.proof import certificate_record

        file = self.out / "certificate.json"
        if present(self.report.certificate) is None:
            raise self._unfinished("a certificate")
        body = read_json(file, certificate_record.SCHEMA)
        return from_json(certificate_record.CertificateBody, body, str(file))

    @property
    def accuracy(self) -> tuple[StageRow, ...]:
        """What each stage's network scores on the test images, and what changed since the last.

        Empty when the build stopped before its evaluation.
        """
        block = None if self.made is None else present(self.made.accuracy)
        return () if block is None else tuple(block.waterfall)

    def _unfinished(self, what: str) -> ModelFileError:
        return ModelFileError(
            f"{self.out}: this build stopped before it made {what}", "build without `until`"
        )

    def _repr_html_(self) -> str:
        rows = [
            (
                row.stage,
                f"{row.top1:.1%}",
                " to ".join(f"{bound:.1%}" for bound in row.top1_ci95),
                "" if row.agree_with_previous is None else f"{row.agree_with_previous:.1%}",
            )
            for row in self.accuracy
        ]
        return "".join(
            (
                notebook.heading(str(self.out), self.passed),
                notebook.bullets(self.failed),
                notebook.table(("stage", "top-1", "95 % interval", "agrees with previous"), rows),
            )
        )


@dataclass(frozen=True)
class SearchResult(Judged):
    """A search: its folder, and its account, which is search.json."""

    out: Path
    search: Search

    @property
    def recommended(self) -> Choice | None:
        """The network that is worth taking, None where no network keeps all limits and gates."""
        return self.search.recommended

    @property
    def path(self) -> Path:
        """The .tflite of the recommended network. Raises ModelFileError where there is none."""
        if self.search.recommended is None:
            raise ModelFileError(f"{self.out}: the search recommends no network", self.next_step)
        return self.out / self.search.recommended.folder / "model.tflite"

    def _repr_html_(self) -> str:
        rows = [
            (
                row.candidate,
                "" if row.top1 is None else f"{row.top1:.1%}",
                "" if row.auc is None else f"{row.auc:.3f}",
                *(f"{each.latency_ms:.3g} ms" for each in row.latencies[:1]),
            )
            for row in self.search.finalists
        ]
        return "".join(
            (
                notebook.heading(str(self.out), self.passed),
                notebook.bullets(self.failed),
                notebook.table(("network", "top-1", "AUC", "predicted latency"), rows),
            )
        )


@dataclass(frozen=True)
class CheckResult(Judged):
    """What a device makes of a model."""

    check: DeviceCheck

    def _repr_html_(self) -> str:
        mapped, predicted = self.check.mapped, self.check.predicted
        latency, cut = predicted.latency_ms, present(self.check.pruned)
        rows = [
            ("operators that map", f"{mapped.mapped} of {mapped.ops}"),
            ("predicted latency", "unknown" if latency is None else f"{latency:.3g} ms"),
            *([("the same after pruning", cut.after.spoken)] if cut else []),
            ("tensor arena", f"{self.check.memory.arena_bytes / 1024:.0f} KiB"),
            ("parameters", f"{self.check.memory.parameter_bytes / 1024:.0f} KiB"),
        ]
        return "".join(
            (
                notebook.heading(f"{self.check.model} on {self.check.profile}", self.passed),
                notebook.bullets(self.failed),
                notebook.table(("", ""), rows),
            )
        )


@dataclass(frozen=True)
class BenchFailure:
    """A profile that could not be measured, and the error that says why."""

    profile: str
    error: EdgeKDError


@dataclass(frozen=True)
class BenchResult:
    """Measurements, one for each profile that could be measured.

    `files`: the files that were written. `failures`: the profiles that could not be measured.
    `folder`: where the measurements are kept, or None. `models`: the model of each run by name,
    where a kit's result gives them.
    """

    runs: tuple[Bench, ...] = ()
    files: tuple[Path, ...] = ()
    failures: tuple[BenchFailure, ...] = ()
    folder: Path | None = None
    models: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every profile could be measured."""
        return not self.failures

    @property
    def run(self) -> Bench:
        """The only measurement. Raises ModelFileError when there is none, or more than one."""
        if len(self.runs) != 1:
            raise ModelFileError(
                f"there are {len(self.runs)} measurements and not one", "use `runs`, which has all"
            )
        return self.runs[0]

    def _repr_html_(self) -> str:
        rows = [
            (
                f"{run.profile} ({run.transport})",
                *(
                    "void" if run.emulated or figure is None else f"{figure:.3g} ms"
                    for figure in (run.latency_ms.p50, run.latency_ms.p95)
                ),
                "" if run.golden is None else f"{run.golden.argmax_agreement:.1%}",
            )
            for run in self.runs
        ]
        failures = [f"{failure.profile}: {failure.error}" for failure in self.failures]
        columns = ("profile", "p50", "p95", "golden agreement")
        return notebook.table(columns, rows) + notebook.bullets(failures)


@dataclass(frozen=True)
class VerifyResult(Judged):
    """The checks of an out folder or a bundle."""

    folder: Path
    verification: Verification

    @property
    def checks(self) -> tuple[VerifyCheck, ...]:
        """Each check, whether it passed, and what it found."""
        return tuple(self.verification.checks)

    def _repr_html_(self) -> str:
        rows = [
            (check.check, "passed" if check.passed else "FAILED", check.found)
            for check in self.checks
        ]
        return notebook.heading(str(self.folder), self.passed) + notebook.table(
            ("check", "", "found"), rows
        )


@dataclass(frozen=True)
class ReportResult:
    """One report, a comparison of several builds, a search, or the slowest operators of each.

    `reports` has the report of a single folder. `comparison` is there for several folders, `search`
    for the out folder of a search, and `slow` when `why_slow` was asked for.
    """

    folders: tuple[Path, ...]
    reports: tuple[Report, ...] = ()
    comparison: Comparison | None = None
    slow: tuple[Slowness, ...] = ()
    search: Search | None = None

    @property
    def report(self) -> Report:
        """The report of the only folder. Raises ModelFileError when several were named."""
        if len(self.reports) != 1:
            raise ModelFileError(
                "there is no single report", "use `comparison`, `search` or `slow`"
            )
        return self.reports[0]

    @property
    def records(self) -> Record | tuple[Record, ...]:
        """What `edgekd report --json` prints."""
        if self.comparison is not None:
            return self.comparison
        if self.search is not None:
            return self.search
        found = self.slow or self.reports
        return found[0] if len(found) == 1 else found

    def html(self) -> str:
        """The report, the comparison or the search as a web page that needs no other file."""
        if self.comparison is not None:
            from edgekd.reporting import builds_page, comparison, comparison_page

            few = comparison.beside(self.comparison)
            return (comparison_page if few else builds_page).page(self.comparison)
        if self.search is not None:
            from edgekd.search import page

            return page.page(self.search)
        from edgekd.reporting import html_report

        return html_report.page(self.report)

    def _repr_html_(self) -> str:
        if self.comparison is not None:
            return notebook.comparison(self.comparison)
        if self.search is not None:
            from edgekd.app import notebook_search

            return notebook_search.table(self.search)
        tables = [BuildResult(folder, report) for folder, report in self._with_folders()]
        return "".join(result._repr_html_() for result in tables)

    def _with_folders(self) -> list[tuple[Path, Report]]:
        return list(zip(self.folders, self.reports, strict=False))
