"""Compare builds: put what the report.json and recipe.toml of each say side by side.

Figures are taken from the reports and not computed again. Only the change from the first build is
new, with an interval computed from both builds' own intervals.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekd.core import intervals
from edgekd.core.errors import RecipeError
from edgekd.core.files import resolved
from edgekd.core.intervals import Interval
from edgekd.core.records import UNSET, present
from edgekd.evaluation.accuracy_record import Accuracy, StageRow
from edgekd.reporting.build_figures import build_figures
from edgekd.reporting.comparison_figures import figure_rows, last_stage
from edgekd.reporting.comparison_record import (
    BuildChange,
    BuildRow,
    Comparison,
    Difference,
    OpRow,
    Setting,
    SettingRow,
    SkippedFolder,
    StageComparison,
    StageFigures,
)
from edgekd.reporting.out_folder import read_report
from edgekd.reporting.report_record import Report

# The short names of builds, beside their real names. More are a table with a row for each: nobody
# compares more columns than these, which have a colour each.
LETTERS = "ABCD"
# What a report states as a recipe does. Of the data it has the name, and a recipe has the path.
COMPARABLE = ("profile", "seed", "distil.student")
# The stages of report.json's waterfall, in build order.
ORDER = ("teacher", "student", "pruned", "qat", "onnx", "tflite")


@dataclasses.dataclass(frozen=True)
class Build:
    """One build. `recipe`: {"section.key": value}; None where there is no recipe.toml."""

    name: str
    report: Report
    recipe: dict[str, Setting] | None


def read(folders: Sequence[Path]) -> list[Build]:
    """Each folder's report and recipe, under the shortest names that tell the folders apart.

    A folder is an out folder or the folder of a bundle. Raises ModelFileError for a folder without
    a report, and RecipeError for a broken recipe.toml.
    """
    return [
        Build(name, read_report(folder), _recipe(folder / "recipe.toml"))
        for name, folder in zip(_names(folders), folders, strict=True)
    ]


def _names(folders: Sequence[Path]) -> list[str]:
    """The last parts of each path, as few as tell different folders apart."""
    parts = [resolved(folder).parts for folder in folders]
    depth = next(
        (
            depth
            for depth in range(1, max(map(len, parts)) + 1)
            if len({part[-depth:] for part in parts}) == len(set(parts))
        ),
        1,
    )
    return ["/".join(part[-depth:]) for part in parts]


def _recipe(path: Path) -> dict[str, Setting] | None:
    try:
        return dict(_flat("", tomllib.loads(path.read_text(encoding="utf-8-sig"))))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(
            f"{path}: {error}", "run the build again, which writes this file anew"
        ) from None


def _flat(where: str, table: Mapping[str, Any]) -> Iterable[tuple[str, Setting]]:
    """("section.key", value) of a TOML table, whose values are free-form."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(f"{where}{key}.", value)
        else:
            yield f"{where}{key}", value


def compare(builds: Sequence[Build], skipped: Sequence[SkippedFolder] = ()) -> Comparison:
    """The whole comparison. `skipped`: what was given beside the builds, and is none."""
    reports = [build.report for build in builds]
    return Comparison(
        builds=[_build(build) for build in builds],
        same_data=len({report.data.digest for report in reports}) == 1,
        figures=figure_rows(reports),
        changes=[
            None if report is reports[0] else _change(reports[0], report) for report in reports
        ],
        waterfall=_waterfall(reports),
        ops=_ops(reports),
        settings=_settings(builds),
        skipped=list(skipped) or UNSET,
    )


def beside(comparison: Comparison) -> bool:
    """Whether the builds are few enough to be shown side by side, in a column each."""
    return len(comparison.builds) <= len(LETTERS)


def _build(build: Build) -> BuildRow:
    report = build.report
    accuracy, artifact = present(report.accuracy), present(report.artifact)
    certificate = present(report.certificate)
    return BuildRow(
        name=build.name,
        profile=report.profile,
        data=report.data.name,
        synthetic=report.data.synthetic,
        n=None if accuracy is None else accuracy.n,
        seed=report.seed,
        teacher=_arch(report, "teacher"),
        student=_arch(report, "student"),
        edgekd=report.edgekd,
        sha256=None if artifact is None else artifact.sha256,
        passed=None if certificate is None else certificate.passed,
        gates=present(report.gates) or [],
        verdict=None if accuracy is None else present(accuracy.verdict),
        figures=build_figures(report),
    )


def _arch(report: Report, role: str) -> str | None:
    network = report.models.get(role)
    return None if network is None else network.arch


def _change(first: Report, report: Report) -> BuildChange:
    """By how much the last network's top-1 and AUC exceed the first build's."""
    before, after = last_stage(first), last_stage(report)
    if before is None or after is None:
        return BuildChange(None, None)
    return BuildChange(
        top1=difference(before.top1, before.top1_ci95, after.top1, after.top1_ci95),
        auc=difference(before.auc, before.auc_ci95, after.auc, after.auc_ci95),
    )


def difference(
    before: float | None, before_ci: Interval | None, after: float | None, after_ci: Interval | None
) -> Difference | None:
    """`after` less `before`, with its 95 % interval; None where a figure or an interval is unknown.

    See `edgekd.core.intervals.difference`.
    """
    if before is None or after is None or before_ci is None or after_ci is None:
        return None
    return Difference(after - before, intervals.difference(before, before_ci, after, after_ci))


def _waterfall(reports: Sequence[Report]) -> list[StageComparison]:
    accuracies = [present(report.accuracy) for report in reports]
    names = {row.stage for accuracy in accuracies if accuracy for row in accuracy.waterfall}
    return [
        StageComparison(stage, [_figures(accuracy, stage) for accuracy in accuracies])
        for stage in sorted(names, key=lambda name: (_place(name), name))
    ]


def _figures(accuracy: Accuracy | None, stage: str) -> StageFigures | None:
    row: StageRow | None = None if accuracy is None else accuracy.row(stage)
    if row is None:
        return None
    return StageFigures(row.top1, row.top1_ci95, row.auc, row.auc_ci95, present(row.state))


def _place(stage: str) -> int:
    return ORDER.index(stage) if stage in ORDER else len(ORDER)


def _ops(reports: Sequence[Report]) -> list[OpRow]:
    """The operators of every file, the most frequent first."""
    artifacts = [present(report.artifact) for report in reports]
    counts = [{} if artifact is None else artifact.ops for artifact in artifacts]
    devices = [present(report.device) for report in reports]
    away = [
        set() if device is None else {row.op for row in device.mapped.fallback}
        for device in devices
    ]
    names = sorted(
        {op for found in counts for op in found},
        key=lambda op: (-max(found.get(op, 0) for found in counts), op),
    )
    return [
        OpRow(op, [found.get(op, 0) for found in counts], [op not in gone for gone in away])
        for op in names
    ]


def _settings(builds: Sequence[Build]) -> list[SettingRow]:
    """The settings in which the recipes differ, and the profile where it differs.

    A bundle holds no recipe, and is compared by what its report says. It does not hide how the
    recipes of several others differ.
    """
    known = sum(build.recipe is not None for build in builds)
    if known < len(builds) and known < 2:
        recipes = [_stated(build.report) for build in builds]
    else:
        recipes = [
            {key: _stated(build.report)[key] for key in COMPARABLE}
            if build.recipe is None
            else {**build.recipe, "profile": build.report.profile}
            for build in builds
        ]
    found = []
    for key in dict.fromkeys(key for recipe in recipes for key in recipe):
        values = [recipe.get(key) for recipe in recipes]
        # What a bundle's report does not state is not known, and is no difference.
        stated = [
            value
            for value, build, recipe in zip(values, builds, recipes, strict=True)
            if key in recipe or (build.recipe is not None)
        ]
        if any(value != stated[0] for value in stated):
            found.append(SettingRow(key, values))
    return found


def _stated(report: Report) -> dict[str, Setting]:
    """The settings that a report itself states."""
    return {
        "profile": report.profile,
        "seed": report.seed,
        "distil.student": _arch(report, "student"),
        "teacher.name": _arch(report, "teacher"),
        "data.source": report.data.name,
    }
