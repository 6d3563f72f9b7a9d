"""A chart of points in a plane, each with its intervals, such as accuracy against latency.

Labels are placed for the narrowest box that the chart may get, `Frame.width`. In a wider box points
only move apart, so labels do not overlap there either.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

from edgekd.core.intervals import Interval
from edgekd.reporting.label_places import place
from edgekd.reporting.svg import AXIS, below, safe, svg, ticks, vertical

TITLES = 20  # pixels below the axis' labels for its title
TOP = 14  # pixels of room above the uppermost mark
MARK = 32  # pixels from one label of the horizontal axis to the next, at least
LETTER = 7.1  # pixels of a letter at the labels' size, on average
LINE = 15  # pixels of a label's line
# From this ratio of the largest to the smallest value on, an axis is logarithmic: on a linear one
# most points would lie on top of each other at its beginning.
LOGARITHMIC = 8


type Form = Callable[[float, float], str]


@dataclasses.dataclass(frozen=True)
class Dot:
    """A point. `x_ci`, `y_ci`: its intervals, drawn as bars; None for no bar.

    `style`: CSS classes. `label`: a short text beside it, or "". `row`: the number of the table's
    row that it belongs to, for a script of the page; None for none.
    """

    name: str
    x: float
    y: float
    x_ci: Interval | None = None
    y_ci: Interval | None = None
    style: str = ""
    label: str = ""
    row: int | None = None


@dataclasses.dataclass(frozen=True)
class Limit:
    """A line that a good point does not cross. `name`: what is written beside it."""

    value: float
    name: str


@dataclasses.dataclass(frozen=True)
class Frame:
    """The size of the chart: the narrowest width that it may get, and its height, in pixels."""

    width: int
    height: int

    @property
    def foot(self) -> int:
        """Where the horizontal axis is."""
        return self.height - AXIS - TITLES


NARROW, WIDE = Frame(270, 320), Frame(640, 400)


@dataclasses.dataclass(frozen=True)
class Title:
    """What an axis shows. `form`: writes a value of an axis whose marks are so far apart."""

    text: str
    form: Form


@dataclasses.dataclass(frozen=True)
class Plane:
    """Where values are drawn: x as a percentage of the width, y in pixels from the top."""

    x_marks: list[float]
    y_marks: list[float]
    logarithmic: bool
    frame: Frame

    def x(self, value: float) -> float:
        low, high = self.x_marks[0], self.x_marks[-1]
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return 100 * (value - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.y_marks[0], self.y_marks[-1]
        foot = self.frame.foot
        return foot - (foot - TOP) * (value - low) / (high - low)


def scatter(
    dots: Sequence[Dot],
    titles: tuple[Title, Title],
    label: str,
    frame: Frame,
    *,
    front: Sequence[tuple[float, float]] = (),
    limits: tuple[Limit | None, Limit | None] = (None, None),
) -> str:
    """The chart; "" without points. `titles`, `limits`: of the horizontal axis and the vertical.

    `front`: points that are connected in steps, from left to right. The last points are drawn on
    top. Points that are not finite are left out, and so are points at or below zero of a
    logarithmic axis.
    """
    dots = [dot for dot in dots if math.isfinite(dot.x) and math.isfinite(dot.y)]
    if not dots:
        return ""
    plane = _plane(dots, limits, frame)
    if plane.logarithmic:
        dots = [dot for dot in dots if dot.x > 0]
        front = [point for point in front if point[0] > 0]
        across, up = limits
        limits = (across if across is not None and across.value > 0 else None, up)
    parts = [
        *_grid(plane, titles),
        *_limits(plane, limits),
        _steps(plane, front),
        *(_dot(plane, dot, titles) for dot in dots),
        *_labels(plane, dots),
    ]
    return svg("scatter", frame.height, label, parts)


def _plane(dots: Sequence[Dot], limits: tuple[Limit | None, Limit | None], frame: Frame) -> Plane:
    x_limit, y_limit = limits
    xs = [value for dot in dots for value in (dot.x, *(dot.x_ci or ()))]
    ys = [value for dot in dots for value in (dot.y, *(dot.y_ci or ()))]
    xs += [] if x_limit is None else [x_limit.value]
    ys += [] if y_limit is None else [y_limit.value]
    positive = [value for value in xs if value > 0]
    logarithmic = bool(positive) and max(positive) > LOGARITHMIC * min(positive)
    marks = (
        log_ticks(min(positive), max(positive)) if logarithmic else ticks(min(0.0, *xs), max(xs))
    )
    return Plane(marks, ticks(min(ys), max(ys), 6), logarithmic, frame)


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten that enclose `low` and `high`, which are above zero."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    marks = [
        float(f"{step * 10.0**power:.3g}") for power in range(first, last + 1) for step in (1, 2, 5)
    ]
    start = max((number for number, mark in enumerate(marks) if mark <= low), default=0)
    end = next((number for number, mark in enumerate(marks) if mark >= high), len(marks) - 1)
    return marks[start : max(end, start + 1) + 1]


def _grid(plane: Plane, titles: tuple[Title, Title]) -> list[str]:
    """Lines at the marks, their labels, and what the axes show."""
    across, up = titles
    foot, height = plane.frame.foot, plane.frame.height
    labelled = _labelled(plane)
    parts = []
    for mark in plane.y_marks:
        y = plane.y(mark)
        parts.append(
            f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick side" x="-8" y="{y + 4:.1f}" text-anchor="end">'
            f"{safe(up.form(mark, _step(plane.y_marks)))}</text>"
        )
    for mark in plane.x_marks:
        x = plane.x(mark)
        ends = {"first": mark == plane.x_marks[0], "last": mark == plane.x_marks[-1]}
        parts.append(vertical(x, foot, foot + 4, "grid"))
        if mark in labelled:
            text = across.form(mark, _step(plane.x_marks))
            parts.append(below(x, height - TITLES, text, **ends))
    parts.append(
        f'<text class="tick" x="100%" y="{height - 4}" text-anchor="end">{safe(across.text)}</text>'
    )
    return parts


def _labelled(plane: Plane) -> list[float]:
    """The marks of the horizontal axis whose labels have room, the ends among them."""
    width = plane.frame.width / 100
    first, *between, last = plane.x_marks
    kept = [first]
    for mark in between:
        if min(plane.x(mark) - plane.x(kept[-1]), plane.x(last) - plane.x(mark)) * width >= MARK:
            kept.append(mark)
    return [*kept, last]


def _step(marks: list[float]) -> float:
    """How far the marks are apart, at their beginning."""
    return marks[1] - marks[0]


def _limits(plane: Plane, limits: tuple[Limit | None, Limit | None]) -> list[str]:
    across, up = limits
    foot, parts = plane.frame.foot, []
    if across is not None:
        x = plane.x(across.value)
        aside = 'text-anchor="end" dx="-5"' if x > 60 else 'dx="5"'
        parts.append(
            vertical(x, TOP - 8, foot, "limit")
            + f'<text class="limit" x="{x:.2f}%" y="{foot - 8}" {aside}>{safe(across.name)}</text>'
        )
    if up is not None:
        y = plane.y(up.value)
        parts.append(
            f'<line class="limit" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="limit" x="0" dx="5" y="{y - 6:.1f}">{safe(up.name)}</text>'
        )
    return parts


def _steps(plane: Plane, front: Sequence[tuple[float, float]]) -> str:
    """The front as steps: the best value of y that is to be had up to each x."""
    corners = list(front[:1])
    for (_, before), (x, y) in itertools.pairwise(front):
        corners += [(x, before), (x, y)]
    trace = " ".join(f"{plane.x(x):.2f},{plane.y(y):.2f}" for x, y in corners)
    foot = plane.frame.foot
    return (
        f'<svg class="line front" width="100%" height="{foot}" viewBox="0 0 100 {foot}" '
        f'preserveAspectRatio="none"><polyline points="{trace}"/></svg>'
    )


def _dot(plane: Plane, dot: Dot, titles: tuple[Title, Title]) -> str:
    """A point with its bars, and a title with all figures."""
    across, up = titles
    x, y, bars = plane.x(dot.x), plane.y(dot.y), ""
    if dot.x_ci is not None and not (plane.logarithmic and dot.x_ci[0] <= 0):
        left, right = (plane.x(value) for value in dot.x_ci)
        bars += f'<line x1="{left:.2f}%" x2="{right:.2f}%" y1="{y:.1f}" y2="{y:.1f}"/>'
    if dot.y_ci is not None:
        low, high = (plane.y(value) for value in dot.y_ci)
        bars += f'<line x1="{x:.2f}%" x2="{x:.2f}%" y1="{low:.1f}" y2="{high:.1f}"/>'
    # A point's own figures have a digit more than the marks.
    y_told, x_told = up.form(dot.y, _step(plane.y_marks) / 10), f"{dot.x:.3g}"
    told = f"{dot.name}: {y_told}; {across.text} {x_told}"
    row = "" if dot.row is None else f' data-row="{dot.row}"'
    return (
        f'<g class="dot {safe(dot.style)}"{row}><title>{safe(told)}</title>{bars}'
        f'<circle cx="{x:.2f}%" cy="{y:.1f}" r="4.5"/></g>'
    )


def _labels(plane: Plane, dots: Sequence[Dot]) -> list[str]:
    """The labels that find a place; a label without one is left out."""
    width = plane.frame.width
    named = [dot for dot in dots if dot.label]
    spots = [(plane.x(dot.x) * width / 100, plane.y(dot.y)) for dot in dots]
    wanted = [
        (plane.x(dot.x) * width / 100, plane.y(dot.y), len(dot.label) * LETTER, float(LINE))
        for dot in named
    ]
    places = place(wanted, spots, width, plane.frame.foot)
    parts = []
    for dot, found in zip(named, places, strict=True):
        if found is not None:
            parts.append(
                f'<text class="at {safe(dot.style)}" x="{plane.x(dot.x):.2f}%" dx="{found.dx:.0f}" '
                f'y="{plane.y(dot.y) + found.dy:.1f}" text-anchor="{found.anchor}"'
                f"{'' if dot.row is None else f' data-row="{dot.row}"'}>{safe(dot.label)}</text>"
            )
    return parts
