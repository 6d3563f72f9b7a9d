"""Charts as inline SVG: lines over epochs, columns of counts, histograms, and bars.

`interval_charts` draws figures with their intervals.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from edgekd.reporting.svg import AXIS, below, decimals, safe, svg, ticks, vertical
from edgekd.reporting.text import percent

LINES_HEIGHT = 132
HISTOGRAM_HEIGHT = 150
BINS = 36
FIGURE = 20  # pixels above the tallest column for its figure
MARK = 16  # pixels of one line of text above a histogram


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a line chart. `style` is a CSS class: "first" or "second"."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str = "first"


@dataclasses.dataclass(frozen=True)
class _Plane:
    """Where points are drawn: x as a percentage of the width, y in pixels from the top."""

    left: float
    right: float
    low: float
    high: float

    def x(self, value: float) -> float:
        if self.right == self.left:
            return 50.0
        return 100 * (value - self.left) / (self.right - self.left)

    def y(self, value: float) -> float:
        plot = LINES_HEIGHT - AXIS
        # 12 pixels of room for the uppermost label
        return plot - (plot - 12) * (value - self.low) / (self.high - self.low)


def lines(series: Sequence[Line], label: str, *, shares: bool = False) -> str:
    """Lines over epochs. Points that are not finite are left out; "" when none is left.

    The labels of the y axis stand left of the box; the page leaves room for them.
    """
    kept = [dataclasses.replace(line, points=_finite(line.points)) for line in series]
    everything = [point for line in kept for point in line.points]
    if not everything:
        return ""
    left, right = min(p[0] for p in everything), max(p[0] for p in everything)
    marks = ticks(min(p[1] for p in everything), max(p[1] for p in everything))
    plane = _Plane(left, right, marks[0], marks[-1])
    parts = _grid(marks, plane, shares)
    parts += [_line(line, plane) for line in kept if line.points]
    if right > left:
        parts += [
            below(0, LINES_HEIGHT, f"epoch {left:g}", first=True),
            below(100, LINES_HEIGHT, f"{right:g}", last=True),
        ]
    else:
        parts.append(below(50, LINES_HEIGHT, f"epoch {left:g}"))
    return svg("lines", LINES_HEIGHT, label, parts)


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])]


def _grid(marks: list[float], plane: _Plane, shares: bool) -> list[str]:
    """Horizontal lines with their labels."""
    step = marks[1] - marks[0]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    parts = []
    for mark in marks:
        told = f"{mark:.{decimals(step)}%}" if shares else f"{mark:.{digits}f}"
        y = plane.y(mark)
        parts.append(
            f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick side" x="-8" y="{y + 4:.1f}" text-anchor="end">{told}</text>'
        )
    return parts


def _line(line: Line, plane: _Plane) -> str:
    """One line, with a dot at its end."""
    plot = LINES_HEIGHT - AXIS
    trace = " ".join(f"{plane.x(x):.2f},{plane.y(y):.2f}" for x, y in line.points)
    epoch, value = line.points[-1]
    return (
        f'<svg class="line {safe(line.style)}" width="100%" height="{plot}" '
        f'viewBox="0 0 100 {plot}" preserveAspectRatio="none"><title>{safe(line.name)}</title>'
        f'<polyline points="{trace}"/></svg>'
        f'<circle class="end {safe(line.style)}" cx="{plane.x(epoch):.2f}%" '
        f'cy="{plane.y(value):.2f}" r="3.5">'
        f"<title>{safe(line.name)}: {value:.4g} at epoch {epoch:g}</title></circle>"
    )


def columns(counts: Mapping[str, int], unit: str, label: str) -> str:
    """A column for each named bin; "" when nothing was counted.

    The heights are square roots of the counts, so that rare bins stay visible.
    """
    total, most = sum(counts.values()), max(counts.values(), default=0)
    if most <= 0:
        return ""
    foot, width, parts = HISTOGRAM_HEIGHT - AXIS, 100 / len(counts), []
    for number, (name, count) in enumerate(counts.items()):
        tall = (foot - FIGURE) * math.sqrt(count / most)
        centre = width * (number + 0.5)
        told = f"{count:,} of {total:,} ({percent(count / total, 2)}) differ by {name} {unit}"
        if count:
            shown = max(tall, 1.5)
            parts.append(
                f'<rect x="{width * number + width * 0.12:.2f}%" width="{width * 0.76:.2f}%" '
                f'y="{foot - shown:.1f}" height="{shown:.1f}"><title>{safe(told)}</title></rect>'
            )
        parts.append(
            f'<text class="count" x="{centre:.2f}%" y="{foot - tall - 5:.1f}" '
            f'text-anchor="middle">{_short(count)}</text>' + below(centre, HISTOGRAM_HEIGHT, name)
        )
    return svg("histogram columns", HISTOGRAM_HEIGHT, label, [_foot(), *parts])


def _short(count: int) -> str:
    """A count that fits above a column: 12,345 as 12k."""
    if count >= 1_000_000:
        return f"{count / 1e6:.3g}M"
    return f"{count / 1e3:.3g}k" if count >= 10_000 else f"{count}"


def _foot() -> str:
    """The line on which the columns stand."""
    y = HISTOGRAM_HEIGHT - AXIS
    return f'<line class="grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>'


def bar(share: float, style: str = "first") -> str:
    """One horizontal bar, `share` of its box.

    A figure stands beside it, so it is hidden from screen readers.
    """
    width = 100 * min(1.0, max(0.0, share))
    return (
        f'<svg class="bar {safe(style)}" width="100%" height="10" aria-hidden="true" '
        f'focusable="false"><rect width="{width:.2f}%" height="10" rx="2"/></svg>'
    )


def histogram(samples: Sequence[float], marks: Mapping[str, float], unit: str, label: str) -> str:
    """How often each value came; "" without samples.

    `marks`: values to point out, by name. Values far beyond the last mark are counted in the last
    bin, so that a single stall of the machine does not squeeze all others into one bin.
    """
    values = sorted(value for value in samples if math.isfinite(value))
    if not values:
        return ""
    shown = {name: value for name, value in marks.items() if math.isfinite(value)}
    low, high = _range(values, list(shown.values()))
    beyond = sum(value > high for value in values)
    parts = [_foot(), *_bins(values, low, high, unit, MARK * len(shown) + 4)]
    for number, (name, value) in enumerate(shown.items()):
        place = 100 * min(1.0, max(0.0, (value - low) / (high - low)))
        parts.append(_mark(name, value, place, MARK * number + 12))
    end = f"{high:.4g} {unit}" + (" +" if beyond else "")
    parts += [
        below(0, HISTOGRAM_HEIGHT, f"{low:.4g} {unit}", first=True),
        below(100, HISTOGRAM_HEIGHT, end, last=True),
    ]
    return svg("histogram", HISTOGRAM_HEIGHT, label, parts)


def _range(values: list[float], marks: list[float]) -> tuple[float, float]:
    """The first and the last value of a histogram's axis. `values` are sorted."""
    low, high = values[0], values[-1]
    if marks:
        high = min(high, max(marks) + 0.25 * (max(marks) - low))
    return low, high if high > low else low + (abs(low) * 0.01 or 1.0)


def _bins(values: list[float], low: float, high: float, unit: str, top: int) -> list[str]:
    """A column for each bin that holds values."""
    width, foot = (high - low) / BINS, HISTOGRAM_HEIGHT - AXIS
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int((value - low) / width))] += 1
    beyond = sum(value > high for value in values)
    parts = []
    for number, count in enumerate(counts):
        if not count:
            continue
        tall = max(1.5, (foot - top) * count / max(counts))
        start = low + number * width
        until = f" to {start + width:.4g}"
        if beyond and number == BINS - 1:
            until = f" or more ({beyond} beyond {high:.3g})"
        told = f"{count} of {len(values)}: {start:.4g}{until} {unit}"
        parts.append(
            f'<rect x="{100 * number / BINS + 0.15:.2f}%" y="{foot - tall:.1f}" '
            f'width="{100 / BINS - 0.3:.2f}%" height="{tall:.1f}">'
            f"<title>{safe(told)}</title></rect>"
        )
    return parts


def _mark(name: str, value: float, place: float, line: int) -> str:
    """A value that is pointed out: a line with its name beside it."""
    aside = 'text-anchor="end" dx="-5"' if place > 60 else 'dx="5"'
    return (
        vertical(place, line - 9, HISTOGRAM_HEIGHT - AXIS, "mark")
        + f'<text class="mark" x="{place:.2f}%" y="{line}" {aside}>{safe(name)} {value:.4g}</text>'
    )
