"""Small charts as inline SVG: pure functions from figures to markup, without scripts, ids or colours of their own.

Places are percentages of the width and pixels of the height, so that a chart fills its box on any screen and its text
keeps its size. Colours come from the page's CSS by class. `role="img"` and `aria-label` tell the whole in a sentence;
each mark's <title> tells its own figure.
"""

from __future__ import annotations

import dataclasses
import html
import math
import unicodedata
from collections.abc import Mapping, Sequence

ROW = 46  # pixels a row of an interval plot takes: a line of text and the line below it
HEADING, MEMBER = 27, 20  # pixels that a group's heading and each of its lines take
STYLES = 4  # colours of lines in a group; their letters tell more of them apart
AXIS = 22  # pixels below a chart for the axis' labels
LINES_HEIGHT = 132
HISTOGRAM_HEIGHT = 150
BINS = 36


def readable(text: str) -> str:
    """Text without control, format and surrogate characters, which could hide, reorder or break what is shown."""
    return "".join(
        c
        if c == " " or c.isprintable() or unicodedata.category(c) == "Zs"
        else " "
        if c in "\n\r\t"
        else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


@dataclasses.dataclass(frozen=True)
class Interval:
    """One row of an interval plot: a share with its bounds, and the texts beside it."""

    name: str
    value: float
    low: float
    high: float
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Change:
    """One row of a plot of changes: a difference of shares with its bounds, and the loss that is allowed (or None)."""

    name: str
    value: float
    low: float
    high: float
    allowed: float | None = None
    note: str = ""
    style: str = "within"  # a CSS class: "within", "unclear" or "beyond"


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a line chart. `style` is a CSS class: "first" or "second"."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str = "first"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` round numbers from at or below `low` to at or above `high`."""
    span = high - low if high > low else abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / most))
    for step in (unit * factor for factor in (1, 2, 2.5, 5, 10, 20, 25, 50)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first + 1 <= most:
            return [number * step for number in range(first, max(last, first + 1) + 1)]
    return [low, low + span]


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage. Never rounded up to 100 %, which would hide the one that differs."""
    text = f"{share:.{digits}%}"
    return f"{100 - 10.0**-digits:.{digits}f}%" if share < 1 and text == f"{1:.{digits}%}" else text


def _decimals(step: float) -> int:
    """Decimals that percentages `step` apart need."""
    return next(
        (digits for digits in range(3) if abs(step * 10 ** (2 + digits) % 1 - 0.5) > 0.499), 3
    )


def intervals(rows: Sequence[Interval], label: str) -> str:
    """Shares with their 95 % intervals, one above the other on one axis; "" without rows."""
    if not rows:
        return ""
    marks = ticks(
        max(0.0, min(row.low for row in rows)), min(1.0, max(row.high for row in rows)), most=6
    )
    marks = [mark for mark in marks if -1e-9 <= mark <= 1 + 1e-9]
    if len(marks) < 2:  # every figure is 100 %
        marks = [0.9, 1.0]
    low, high = marks[0], marks[-1]
    height = ROW * len(rows) + AXIS

    def x(share: float) -> str:
        return f"{100 * min(1.0, max(0.0, (share - low) / (high - low))):.2f}%"

    parts = [_vertical(x(mark), 0, height - AXIS, "grid") for mark in marks]
    for number, row in enumerate(rows):
        top = ROW * number
        told = f"{row.name}: {percent(row.value)}, 95% interval {percent(row.low)} to {percent(row.high)}"
        final = " final" if number == len(rows) - 1 else ""
        note = f'<tspan class="note" dx="8">{_safe(row.note)}</tspan>' if row.note else ""
        parts.append(
            f'<g class="interval{final}"><title>{_safe(told)}</title>'
            f'<text x="0" y="{top + 15}" class="name">{_safe(row.name)}{note}</text>'
            f'<text x="100%" y="{top + 15}" class="value">{percent(row.value)}</text>'
            f'<line x1="{x(row.low)}" x2="{x(row.high)}" y1="{top + 29}" y2="{top + 29}"/>'
            f'<circle cx="{x(row.value)}" cy="{top + 29}" r="5"/></g>'
        )
    step = marks[1] - marks[0]
    parts += [
        _below(x(mark), height, f"{mark:.{_decimals(step)}%}", mark == low, mark == high)
        for mark in marks
    ]
    return _svg("intervals", height, label, parts)


def grouped(groups: Sequence[tuple[str, Sequence[Interval | None]]], label: str) -> str:
    """Shares with their 95 % intervals on one axis, in groups: a heading, then a line a member ("" without any).

    A member's `name` should be a letter: it stands left of its line, which is drawn in the member's own style.
    """
    known = [row for _, rows in groups for row in rows if row]
    if not known:
        return ""
    marks = [
        mark
        for mark in ticks(
            max(0.0, min(row.low for row in known)),
            min(1.0, max(row.high for row in known)),
            most=6,
        )
        if -1e-9 <= mark <= 1 + 1e-9
    ]
    marks = marks if len(marks) > 1 else [0.9, 1.0]
    low, high = marks[0], marks[-1]
    height = (
        sum(HEADING + MEMBER * sum(row is not None for row in rows) for _, rows in groups) + AXIS
    )
    parts = [
        _vertical(f"{100 * (mark - low) / (high - low):.2f}%", 0, height - AXIS, "grid")
        for mark in marks
    ]

    def x(share: float) -> str:
        return f"{100 * min(1.0, max(0.0, (share - low) / (high - low))):.2f}%"

    top = 0
    for heading, rows in groups:
        parts.append(f'<text x="0" y="{top + 17}" class="name">{_safe(heading)}</text>')
        top += HEADING
        for number, row in enumerate(rows):
            if row is None:
                continue
            told = f"{heading}, {row.name}: {percent(row.value)}, 95% interval {percent(row.low)} to {percent(row.high)}"
            parts.append(
                f'<g class="member m{number % STYLES}"><title>{_safe(told)}</title>'
                f'<text x="0" y="{top + 14}" class="letter">{_safe(row.name)}</text>'
                f'<text x="100%" y="{top + 14}" class="value">{percent(row.value)}</text>'
                f'<line x1="{x(row.low)}" x2="{x(row.high)}" y1="{top + 9}" y2="{top + 9}"/>'
                f'<circle cx="{x(row.value)}" cy="{top + 9}" r="4.5"/></g>'
            )
            top += MEMBER
    step = marks[1] - marks[0]
    parts += [
        _below(x(mark), height, f"{mark:.{_decimals(step)}%}", mark == low, mark == high)
        for mark in marks
    ]
    return _svg("intervals grouped", height, label, parts)


def points(change: float, digits: int = 1) -> str:
    """A difference of shares in percentage points, with a proper sign; none where it rounds to nothing."""
    size = f"{abs(change) * 100:.{digits}f}"
    return size if float(size) == 0 else f"{'+' if change > 0 else '−'}{size}"


def changes(rows: Sequence[Change], label: str) -> str:
    """Changes with their 95 % intervals around a line at zero, in points, losses to the left; "" without rows.

    What a row may lose is a shaded stretch from that loss to zero.
    """
    if not rows:
        return ""
    low = min(0.0, *(min(row.low, -(row.allowed or 0.0)) for row in rows))
    high = max(0.0, *(row.high for row in rows))
    marks = ticks(low, high, most=6) if high > low else [-0.01, 0.0, 0.01]
    low, high = marks[0], marks[-1]
    height = ROW * len(rows) + AXIS

    def x(value: float) -> float:
        return 100 * (value - low) / (high - low)

    parts = [
        _vertical(f"{x(mark):.2f}%", 0, height - AXIS, "zero" if abs(mark) < 1e-12 else "grid")
        for mark in marks
    ]
    for number, row in enumerate(rows):
        top = ROW * number
        told = f"{row.name}: {points(row.value, 2)} points, 95% interval {points(row.low, 2)} to {points(row.high, 2)}"
        if row.allowed is not None:
            told += f", may lose {row.allowed * 100:g}"
        note = f'<tspan class="note" dx="8">{_safe(row.note)}</tspan>' if row.note else ""
        shade = (
            (
                f'<rect class="allowed" x="{x(-row.allowed):.2f}%" width="{x(0) - x(-row.allowed):.2f}%" '
                f'y="{top + 22}" height="14" rx="2"/>'
            )
            if row.allowed
            else ""
        )
        parts.append(
            f'<g class="change {_safe(row.style)}"><title>{_safe(told)}</title>{shade}'
            f'<text x="0" y="{top + 15}" class="name">{_safe(row.name)}{note}</text>'
            f'<text x="100%" y="{top + 15}" class="value">{points(row.value)}</text>'
            f'<line x1="{x(row.low):.2f}%" x2="{x(row.high):.2f}%" y1="{top + 29}" y2="{top + 29}"/>'
            f'<circle cx="{x(row.value):.2f}%" cy="{top + 29}" r="5"/></g>'
        )
    digits = max(0, _decimals(marks[1] - marks[0]))
    parts += [
        _below(f"{x(mark):.2f}%", height, points(mark, digits), mark == low, mark == high)
        for mark in marks
    ]
    return _svg("intervals changes", height, label, parts)


def columns(counts: Mapping[str, int], unit: str, label: str) -> str:
    """Counts of named bins, a column each; the heights are square roots, so that rare bins stay visible. "" if empty."""
    total, most = sum(counts.values()), max(counts.values(), default=0)
    if most <= 0:
        return ""
    foot, width, parts = HISTOGRAM_HEIGHT - AXIS, 100 / len(counts), []
    for number, (name, count) in enumerate(counts.items()):
        tall = (foot - 20) * math.sqrt(count / most)  # 20 px for the figure above the tallest
        centre = f"{width * (number + 0.5):.2f}%"
        told = f"{count:,} of {total:,} ({percent(count / total, 2)}) differ by {name} {unit}"
        if count:
            parts.append(
                f'<rect x="{width * number + width * 0.12:.2f}%" width="{width * 0.76:.2f}%" '
                f'y="{foot - max(tall, 1.5):.1f}" height="{max(tall, 1.5):.1f}"><title>{_safe(told)}</title></rect>'
            )
        parts.append(
            f'<text class="count" x="{centre}" y="{foot - tall - 5:.1f}" text-anchor="middle">'
            f"{_short(count)}</text>" + _below(centre, HISTOGRAM_HEIGHT, name)
        )
    return _svg(
        "histogram columns",
        HISTOGRAM_HEIGHT,
        label,
        [f'<line class="grid" x1="0" x2="100%" y1="{foot}" y2="{foot}"/>', *parts],
    )


def _short(count: int) -> str:
    """A count that fits above a column: 12,345 as 12k."""
    return (
        f"{count / 1e6:.3g}M"
        if count >= 1_000_000
        else f"{count / 1e3:.3g}k"
        if count >= 10_000
        else f"{count}"
    )


def lines(series: Sequence[Line], label: str, *, shares: bool = False) -> str:
    """Lines over epochs. Points that are not finite are left out; "" when none is left.

    The labels of the y axis stand left of the box: the page leaves room for them.
    """
    kept = [
        dataclasses.replace(
            line, points=[p for p in line.points if math.isfinite(p[0]) and math.isfinite(p[1])]
        )
        for line in series
    ]
    everything = [point for line in kept for point in line.points]
    if not everything:
        return ""
    left, right = min(p[0] for p in everything), max(p[0] for p in everything)
    marks = ticks(min(p[1] for p in everything), max(p[1] for p in everything))
    low, high = marks[0], marks[-1]
    plot = LINES_HEIGHT - AXIS

    def x(value: float) -> float:
        return 100 * (value - left) / (right - left) if right > left else 50.0

    def y(value: float) -> float:
        return plot - (plot - 12) * (value - low) / (
            high - low
        )  # 12 px of room for the uppermost label

    step = marks[1] - marks[0]
    parts = []
    for mark in marks:
        told = (
            f"{mark:.{_decimals(step)}%}"
            if shares
            else f"{mark:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
        )
        parts.append(
            f'<line class="grid" x1="0" x2="100%" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>'
            f'<text class="tick side" x="-8" y="{y(mark) + 4:.1f}" text-anchor="end">{told}</text>'
        )
    for line in kept:
        if not line.points:
            continue
        trace = " ".join(f"{x(px):.2f},{y(py):.2f}" for px, py in line.points)
        parts.append(
            f'<svg class="line {_safe(line.style)}" width="100%" height="{plot}" viewBox="0 0 100 {plot}" '
            f'preserveAspectRatio="none"><title>{_safe(line.name)}</title>'
            f'<polyline points="{trace}"/></svg>'
        )
        end = line.points[-1]
        parts.append(
            f'<circle class="end {_safe(line.style)}" cx="{x(end[0]):.2f}%" cy="{y(end[1]):.2f}" r="3.5">'
            f"<title>{_safe(line.name)}: {end[1]:.4g} at epoch {end[0]:g}</title></circle>"
        )
    if right > left:
        parts += [
            _below("0%", LINES_HEIGHT, f"epoch {left:g}", first=True),
            _below("100%", LINES_HEIGHT, f"{right:g}", last=True),
        ]
    else:
        parts.append(_below("50%", LINES_HEIGHT, f"epoch {left:g}"))
    return _svg("lines", LINES_HEIGHT, label, parts)


def bar(share: float, style: str = "first") -> str:
    """One horizontal bar, `share` of its box; a figure stands beside it, so readers of screens are spared it."""
    width = 100 * min(1.0, max(0.0, share))
    return (
        f'<svg class="bar {_safe(style)}" width="100%" height="10" aria-hidden="true" focusable="false">'
        f'<rect width="{width:.2f}%" height="10" rx="2"/></svg>'
    )


def histogram(samples: Sequence[float], marks: Mapping[str, float], unit: str, label: str) -> str:
    """How often each value came. Values far beyond the last mark are counted in the last bin; "" without samples."""
    values = sorted(value for value in samples if math.isfinite(value))
    if not values:
        return ""
    known = [value for value in marks.values() if math.isfinite(value)]
    low = values[0]
    # a single stall of the machine must not squeeze all others into one bin
    high = min(values[-1], max(known) + 0.25 * (max(known) - low)) if known else values[-1]
    if not high > low:
        high = low + (abs(low) * 0.01 or 1.0)
    width = (high - low) / BINS
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int((value - low) / width))] += 1
    beyond = sum(value > high for value in values)
    top, foot = 16 * len(known) + 4, HISTOGRAM_HEIGHT - AXIS

    def x(value: float) -> float:
        return 100 * min(1.0, max(0.0, (value - low) / (high - low)))

    parts = [f'<line class="grid" x1="0" x2="100%" y1="{foot}" y2="{foot}"/>']
    for number, count in enumerate(counts):
        if not count:
            continue
        tall = max(1.5, (foot - top) * count / max(counts))
        start = low + number * width
        open_end = beyond and number == BINS - 1
        until = f" or more ({beyond} beyond {high:.3g})" if open_end else f" to {start + width:.4g}"
        told = f"{count} of {len(values)}: {start:.4g}{until} {unit}"
        parts.append(
            f'<rect x="{100 * number / BINS + 0.15:.2f}%" y="{foot - tall:.1f}" '
            f'width="{100 / BINS - 0.3:.2f}%" height="{tall:.1f}"><title>{_safe(told)}</title></rect>'
        )
    for number, (name, value) in enumerate((n, v) for n, v in marks.items() if math.isfinite(v)):
        place, line = x(value), 16 * number + 12
        aside = 'text-anchor="end" dx="-5"' if place > 60 else 'dx="5"'
        parts.append(
            _vertical(f"{place:.2f}%", line - 9, foot, "mark")
            + f'<text class="mark" x="{place:.2f}%" y="{line}" {aside}>{_safe(name)} {value:.4g}</text>'
        )
    end = f"{high:.4g} {unit}" + (" +" if beyond else "")
    parts += [
        _below("0%", HISTOGRAM_HEIGHT, f"{low:.4g} {unit}", first=True),
        _below("100%", HISTOGRAM_HEIGHT, end, last=True),
    ]
    return _svg("histogram", HISTOGRAM_HEIGHT, label, parts)


def _safe(text: str) -> str:
    return html.escape(readable(text), quote=True)


def _svg(kind: str, height: int, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart {kind}" role="img" aria-label="{_safe(label)}" width="100%" height="{height}" '
        f'focusable="false">{"".join(parts)}</svg>'
    )


def _vertical(x: str, y1: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x}" x2="{x}" y1="{y1}" y2="{y2}"/>'


def _below(x: str, height: int, text: str, first: bool = False, last: bool = False) -> str:
    """An axis' label, which at either end stays inside the chart."""
    anchor = "start" if first else "end" if last else "middle"
    return (
        f'<text class="tick" x="{x}" y="{height - 6}" text-anchor="{anchor}">{_safe(text)}</text>'
    )
