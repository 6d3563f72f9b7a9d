"""Many builds as a table: a row for each build, and columns for its figures and settings.

The page and the terminal show the same rows. Only settings that differ have a column.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edgekd.core.records import present
from edgekd.reporting import text as fmt
from edgekd.reporting.comparison_figures import setting, told
from edgekd.reporting.comparison_record import (
    BuildFigures,
    BuildRow,
    Comparison,
    Setting,
    Unit,
)

# Values of a column among which a reader can choose: as many as models/ has students, and some. A
# longer list is not quicker than typing.
MOST_CHOICES = 30
MEASURED, PREDICTED = "measured", "predicted"  # what stands below a latency


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell. `bound`: its interval, or a word about it. `value`: what it is sorted by.

    `value` is a number in a column of numbers, else a text; None where it is not known. `style`: a
    CSS class.
    """

    text: str
    value: float | str | None
    bound: str = ""
    style: str = ""


@dataclasses.dataclass(frozen=True)
class Column:
    """One column. `falling`: whether a reader wants its largest values first.

    `key`: whether it is a key of the recipe. `choices`: its values, where they are few.
    """

    head: str
    numeric: bool
    cells: list[Cell]
    falling: bool = False
    key: bool = False

    @property
    def choices(self) -> list[str]:
        """The values to filter by, empty where there is one alone, or are too many."""
        if not self.key and self.numeric:
            return []
        known = {cell.text: cell.value for cell in self.cells}
        if not 1 < len(known) <= MOST_CHOICES:
            return []
        return sorted(known, key=lambda text: _order(known[text]))


@dataclasses.dataclass(frozen=True)
class Table:
    """All builds, the best first. `order`: the place of each row's build in the comparison.

    `ranked`: the head of the column that the rows are sorted by.
    """

    builds: list[BuildRow]
    columns: list[Column]
    ranked: str


def _order(value: float | str | None) -> tuple[bool, bool, float, str]:
    """Numbers before texts, and None last."""
    if isinstance(value, str):
        return False, True, 0.0, value
    return value is None, False, value or 0.0, ""


def state(build: BuildRow) -> tuple[str, str]:
    """(CSS class, words) of a build's gates."""
    if build.passed is None:
        return "open", "not finished"
    if not build.passed:
        return "bad", "✗ not certified"
    return ("bad", "✗ failed a gate") if build.gates else ("good", "✓ certified")


def table(comparison: Comparison) -> Table:
    """The builds as a table, sorted by accuracy."""
    builds = comparison.builds
    aucs = sum(_figures(build).auc is not None for build in builds)
    # Every network has a top-1, and some have no AUC: then top-1 ranks.
    by_auc = aucs > 0 and aucs == sum(_figures(build).top1 is not None for build in builds)
    order = sorted(range(len(builds)), key=lambda number: _rank(builds[number], by_auc))
    sorted_builds = [builds[number] for number in order]
    figures = [_figures(build) for build in sorted_builds]
    columns = [
        *_accuracies(figures, by_auc),
        Column("latency", True, [_latency(one) for one in figures]),
        Column("file", True, [_size(one.file_bytes) for one in figures]),
        Column("arena", True, [_size(one.arena_bytes) for one in figures]),
        Column("gates", False, [_gates(build) for build in sorted_builds]),
    ]
    columns = [one for one in columns if any(cell.value is not None for cell in one.cells)]
    columns += [
        _setting(row.key, [row.values[number] for number in order]) for row in comparison.settings
    ]
    return Table(sorted_builds, columns, "AUC" if by_auc else "top-1")


def _figures(build: BuildRow) -> BuildFigures:
    """A build's figures; a comparison of an older EdgeKD has none."""
    found = present(build.figures)
    if found is not None:
        return found
    return BuildFigures(
        stage=None,
        top1=None,
        top1_ci95=None,
        auc=None,
        auc_ci95=None,
        file_bytes=None,
        arena_bytes=None,
    )


def score(build: BuildRow, by: str) -> tuple[float, tuple[float, float] | None] | None:
    """A build's "AUC" or "top-1", with its interval; None where it has none."""
    row = _figures(build)
    value, interval = (row.auc, row.auc_ci95) if by == "AUC" else (row.top1, row.top1_ci95)
    return None if value is None else (value, interval)


def _rank(build: BuildRow, by_auc: bool) -> tuple[bool, float, str]:
    found = score(build, "AUC" if by_auc else "top-1")
    return found is None, 0.0 if found is None else -found[0], build.name


def _accuracies(figures: Sequence[BuildFigures], by_auc: bool) -> list[Column]:
    """AUC and top-1, that which ranks first."""
    auc = Column(
        "AUC",
        True,
        [
            Cell(
                told(one.auc, Unit.NUMBER),
                one.auc,
                fmt.bound(one.auc_ci95, lambda value: f"{value:.3f}"),
            )
            for one in figures
        ],
        falling=True,
    )
    top1 = Column(
        "top-1",
        True,
        [
            Cell(told(one.top1, Unit.SHARE), one.top1, fmt.bound(one.top1_ci95, fmt.percent))
            for one in figures
        ],
        falling=True,
    )
    return [auc, top1] if by_auc else [top1, auc]


def _latency(figures: BuildFigures) -> Cell:
    found = present(figures.latency)
    if found is None:
        return Cell(fmt.NONE, None)
    bound = MEASURED if found.measured else PREDICTED
    if found.low_ms is not None and found.high_ms is not None:
        bound = f"{found.low_ms:.3g}–{found.high_ms:.3g} {bound}"
    return Cell(told(found.latency_ms, Unit.MS), found.latency_ms, bound)


def _size(count: int | None) -> Cell:
    return Cell(fmt.kib(count), None if count is None else float(count))


def _gates(build: BuildRow) -> Cell:
    style, words = state(build)
    if build.passed and len(build.gates) > 1:
        words = f"✗ failed {len(build.gates)} gates"
    return Cell(words, words, style=style)


def _setting(key: str, values: Sequence[Setting]) -> Column:
    """A column of a setting. Its values are numbers only where all of them are."""
    numeric = all(
        value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        for value in values
    )
    return Column(
        key,
        numeric,
        [
            Cell(
                setting(value),
                None
                if value is None
                else float(value)
                if numeric and isinstance(value, int | float)
                else setting(value),
            )
            for value in values
        ],
        key=True,
    )
