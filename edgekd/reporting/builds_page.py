"""Many builds as one HTML page that loads nothing: a table that sorts and filters, and a chart.

Without its script the page is a plain table, sorted by accuracy.
"""

from __future__ import annotations

import collections
import dataclasses

from edgekd.core.records import present
from edgekd.reporting import html_report, page_script, scatter
from edgekd.reporting.builds_table import Table, score, state, table
from edgekd.reporting.comparison import LETTERS
from edgekd.reporting.comparison_record import BuildRow, Comparison
from edgekd.reporting.pareto import Point, Standing, standings
from edgekd.reporting.scatter import Dot, Frame, Title
from edgekd.reporting.svg import decimals

MOST_CHARTS = 3  # devices that have a chart: those of most builds
MOST_LABELS = 12  # names in a chart; more cover its points


@dataclasses.dataclass(frozen=True)
class ChartView:
    """One device's chart, for wide and for narrow boxes. `builds`: how many have both figures."""

    profile: str
    wide: str
    narrow: str
    builds: int


@dataclasses.dataclass(frozen=True)
class FailedBuild:
    """A build whose gates failed, each with its sentence."""

    name: str
    gates: list[str]


def page(comparison: Comparison) -> str:
    """The builds as HTML."""
    rows = table(comparison)
    charts = _charts(rows)
    return html_report.render(
        "builds.html",
        {
            "script": page_script.load("builds.js"),
            "table": rows,
            "front": {number for _, numbers in charts for number in numbers},
            "charts": [chart for chart, _ in charts],
            "beside": len(LETTERS),
            "same_data": comparison.same_data,
            "synthetic": sum(build.synthetic for build in comparison.builds),
            "skipped": present(comparison.skipped) or [],
            "failed": [
                FailedBuild(build.name, build.gates) for build in rows.builds if build.gates
            ],
            "counts": _counts(rows),
            "choosers": [
                (number, column) for number, column in enumerate(rows.columns, 1) if column.choices
            ],
        },
    )


def _counts(rows: Table) -> str:
    """How many builds are certified, failed, and so on."""
    found = collections.Counter(state(build)[1].lstrip("✓✗ ") for build in rows.builds)
    return ", ".join(f"{count} {words}" for words, count in found.most_common())


def _charts(rows: Table) -> list[tuple[ChartView, list[int]]]:
    """The chart of each device, with the numbers of the rows on its front."""
    by_profile: dict[str, list[int]] = collections.defaultdict(list)
    for number, build in enumerate(rows.builds):
        if _point(build, rows.ranked) is not None:
            by_profile[build.profile].append(number)
    most = sorted(by_profile, key=lambda name: -len(by_profile[name]))[:MOST_CHARTS]
    return [_chart(rows, name, by_profile[name]) for name in most if len(by_profile[name]) > 1]


def _chart(rows: Table, profile: str, numbers: list[int]) -> tuple[ChartView, list[int]]:
    points = {
        number: point
        for number in numbers
        if (point := _point(rows.builds[number], rows.ranked)) is not None
    }
    places = standings(list(points.values()))
    front = [number for number, place in zip(points, places, strict=True) if place is Standing.ON]
    front.sort(key=lambda number: points[number].latency)
    told = "; ".join(
        f"{rows.builds[number].name}: {_form(rows.ranked)(points[number].score, 0.01)} at "
        f"{points[number].latency:.3g} ms"
        for number in front[:MOST_LABELS]
    )
    label = f"{rows.ranked} against latency on {profile}. On the front: {told}"
    wide = _drawn(rows, points, front, label, scatter.WIDE, front[:MOST_LABELS])
    narrow = _drawn(rows, points, front, label, scatter.NARROW, [])
    return ChartView(profile, wide, narrow, len(points)), front


def _drawn(
    rows: Table,
    points: dict[int, Point],
    front: list[int],
    label: str,
    frame: Frame,
    named: list[int],
) -> str:
    """One chart. The points of the front are drawn last, on top."""
    order = sorted(points, key=lambda number: number in front)
    dots = [
        Dot(
            name=rows.builds[number].name,
            x=points[number].latency,
            y=points[number].score,
            x_ci=_shown(points[number].latency_ci),
            y_ci=_shown(points[number].score_ci),
            style="on" if number in front else "behind",
            label=rows.builds[number].name if number in named else "",
            row=number,
        )
        for number in order
    ]
    return scatter.scatter(
        dots,
        (
            Title("latency, ms for an image", lambda value, _: f"{value:.3g}"),
            Title(rows.ranked, _form(rows.ranked)),
        ),
        label,
        frame,
        front=[(points[number].latency, points[number].score) for number in front],
    )


def _form(ranked: str) -> scatter.Form:
    """How the accuracy is written on its axis."""
    if ranked == "AUC":
        return lambda value, step: f"{value:.{decimals(step / 100)}f}"
    return lambda value, step: f"{value:.{decimals(step)}%}"


def _shown(interval: tuple[float, float]) -> tuple[float, float] | None:
    return interval if interval[0] < interval[1] else None


def _point(build: BuildRow, ranked: str) -> Point | None:
    """A build in the plane; None where its accuracy or its latency is not known."""
    found, figures = score(build, ranked), present(build.figures)
    latency = None if figures is None else present(figures.latency)
    if found is None or latency is None:
        return None
    value, interval = found
    bounds = (latency.low_ms, latency.high_ms)
    return Point(
        value,
        interval or (value, value),
        latency.latency_ms,
        (latency.latency_ms, latency.latency_ms)
        if bounds[0] is None or bounds[1] is None
        else (bounds[0], bounds[1]),
    )
