"""Charts of figures with their 95 % intervals: shares, shares in groups, and changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edgekd.reporting.svg import AXIS, Axis, safe, share_axis, svg, ticks, vertical
from edgekd.reporting.text import percent, points

ROW = 46  # pixels of one row: a line of text and the interval below it
HEADING, MEMBER = 27, 20  # pixels of a group's heading and of each of its lines
STYLES = 4  # colours of lines in a group; their letters tell more lines apart


@dataclasses.dataclass(frozen=True)
class Interval:
    """One row: a share with its bounds, and a note beside its name."""

    name: str
    value: float
    low: float
    high: float
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Change:
    """One row: a difference of shares with its bounds, and the loss that is allowed, or None."""

    name: str
    value: float
    low: float
    high: float
    allowed: float | None = None
    note: str = ""
    style: str = "within"  # a CSS class: "within", "unclear" or "beyond"


def intervals(rows: Sequence[Interval], label: str) -> str:
    """Shares, one above the other on one axis; "" without rows."""
    if not rows:
        return ""
    axis = share_axis(min(row.low for row in rows), max(row.high for row in rows))
    height = ROW * len(rows) + AXIS
    parts = [vertical(axis.at(mark), 0, height - AXIS, "grid") for mark in axis.marks]
    for number, row in enumerate(rows):
        final = " final" if number == len(rows) - 1 else ""
        parts.append(
            f'<g class="interval{final}"><title>{safe(_told(row.name, row))}</title>'
            f"{_name(row.name, row.note, ROW * number + 15)}"
            f"{_value(percent(row.value), ROW * number + 15)}"
            f"{_whisker(axis, row, ROW * number + 29, 5)}</g>"
        )
    parts += axis.labels(height, lambda mark: f"{mark:.{axis.decimals}%}")
    return svg("intervals", height, label, parts)


def grouped(groups: Sequence[tuple[str, Sequence[Interval | None]]], label: str) -> str:
    """Shares on one axis in groups: a heading, then a line for each member; "" without any.

    A member's `name` is a letter, which stands left of its line. Each member has its own style.
    """
    known = [row for _, rows in groups for row in rows if row]
    if not known:
        return ""
    axis = share_axis(min(row.low for row in known), max(row.high for row in known))
    height = HEADING * len(groups) + MEMBER * len(known) + AXIS
    parts = [vertical(axis.at(mark), 0, height - AXIS, "grid") for mark in axis.marks]
    top = 0
    for heading, rows in groups:
        parts.append(f'<text x="0" y="{top + 17}" class="name">{safe(heading)}</text>')
        top += HEADING
        for number, row in enumerate(rows):
            if row is None:
                continue
            parts.append(
                f'<g class="member m{number % STYLES}">'
                f"<title>{safe(_told(f'{heading}, {row.name}', row))}</title>"
                f'<text x="0" y="{top + 14}" class="letter">{safe(row.name)}</text>'
                f"{_value(percent(row.value), top + 14)}{_whisker(axis, row, top + 9, 4.5)}</g>"
            )
            top += MEMBER
    parts += axis.labels(height, lambda mark: f"{mark:.{axis.decimals}%}")
    return svg("intervals grouped", height, label, parts)


def changes(rows: Sequence[Change], label: str) -> str:
    """Changes around a line at zero, in points, losses to the left; "" without rows.

    The loss that a row may have is a shaded area that ends at zero.
    """
    if not rows:
        return ""
    low = min(0.0, *(min(row.low, -(row.allowed or 0.0)) for row in rows))
    high = max(0.0, *(row.high for row in rows))
    axis = Axis(ticks(low, high, 6) if high > low else [-0.01, 0.0, 0.01])
    height = ROW * len(rows) + AXIS
    parts = [
        vertical(axis.at(mark), 0, height - AXIS, "zero" if abs(mark) < 1e-12 else "grid")
        for mark in axis.marks
    ]
    for number, row in enumerate(rows):
        top = ROW * number
        told = (
            f"{row.name}: {points(row.value, 2)} points, 95% interval {points(row.low, 2)} to "
            f"{points(row.high, 2)}"
        )
        told += "" if row.allowed is None else f", may lose {row.allowed * 100:g}"
        parts.append(
            f'<g class="change {safe(row.style)}"><title>{safe(told)}</title>'
            f"{_shade(axis, row.allowed, top + 22)}{_name(row.name, row.note, top + 15)}"
            f"{_value(points(row.value), top + 15)}{_whisker(axis, row, top + 29, 5)}</g>"
        )
    parts += axis.labels(height, lambda mark: points(mark, axis.decimals))
    return svg("intervals changes", height, label, parts)


def _told(name: str, row: Interval) -> str:
    """A row in words."""
    return f"{name}: {percent(row.value)}, 95% interval {percent(row.low)} to {percent(row.high)}"


def _name(name: str, note: str, y: int) -> str:
    """A row's name with its note."""
    beside = f'<tspan class="note" dx="8">{safe(note)}</tspan>' if note else ""
    return f'<text x="0" y="{y}" class="name">{safe(name)}{beside}</text>'


def _value(text: str, y: int) -> str:
    """A row's figure, at the right."""
    return f'<text x="100%" y="{y}" class="value">{text}</text>'


def _whisker(axis: Axis, row: Interval | Change, y: int, radius: float) -> str:
    """The interval as a line, and the figure as a dot on it."""
    low, high, value = (min(100.0, max(0.0, axis.at(x))) for x in (row.low, row.high, row.value))
    return (
        f'<line x1="{low:.2f}%" x2="{high:.2f}%" y1="{y}" y2="{y}"/>'
        f'<circle cx="{value:.2f}%" cy="{y}" r="{radius:g}"/>'
    )


def _shade(axis: Axis, allowed: float | None, y: int) -> str:
    """The area of the losses that are allowed."""
    if not allowed:
        return ""
    start = axis.at(-allowed)
    return (
        f'<rect class="allowed" x="{start:.2f}%" width="{axis.at(0) - start:.2f}%" y="{y}" '
        'height="14" rx="2"/>'
    )
