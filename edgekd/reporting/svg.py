"""Pieces of inline SVG that every chart is made of: axes, marks and safe texts.

Horizontal places are percentages of the width, vertical ones are pixels, so that a chart fills its
box on any screen while its text keeps its size. Colours come from the page's CSS by class. There
are no scripts and no ids.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable, Sequence

from edgekd.reporting.text import readable

AXIS = 22  # pixels below a chart for the axis' labels
NICE = (1, 2, 2.5, 5, 10, 20, 25, 50)  # factors of a power of ten that make round steps


@dataclasses.dataclass(frozen=True)
class Axis:
    """A horizontal axis from the first to the last of its marks."""

    marks: list[float]

    def at(self, value: float) -> float:
        """Where a value is, as a percentage of the width."""
        low, high = self.marks[0], self.marks[-1]
        return 100 * (value - low) / (high - low)

    @property
    def decimals(self) -> int:
        """Decimals that the marks need when they are written as percentages."""
        return decimals(self.marks[1] - self.marks[0])

    def labels(self, height: int, form: Callable[[float], str]) -> list[str]:
        """The marks' labels below a chart of this height."""
        return [
            below(self.at(mark), height, form(mark), mark == self.marks[0], mark == self.marks[-1])
            for mark in self.marks
        ]


def share_axis(low: float, high: float) -> Axis:
    """An axis for shares, which never goes beyond 0 and 1."""
    marks = [mark for mark in ticks(max(0.0, low), min(1.0, high), 6) if -1e-9 <= mark <= 1 + 1e-9]
    return Axis(marks if len(marks) > 1 else [0.9, 1.0])  # one mark: every figure is 100 %


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` round numbers, from at or below `low` to at or above `high`."""
    span = high - low if high > low else abs(high) or 1.0
    unit = 10.0 ** math.floor(math.log10(span / most))
    for step in (unit * factor for factor in NICE):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first + 1 <= most:
            return [number * step for number in range(first, max(last, first + 1) + 1)]
    return [low, low + span]


def decimals(step: float) -> int:
    """Decimals that percentages `step` apart need."""
    return next(
        (digits for digits in range(3) if abs(step * 10 ** (2 + digits) % 1 - 0.5) > 0.499), 3
    )


def safe(text: str) -> str:
    """A text from outside, escaped for SVG and HTML."""
    return html.escape(readable(text), quote=True)


def svg(kind: str, height: int, label: str, parts: Sequence[str]) -> str:
    """A whole chart. `kind`: its CSS classes; `label`: all of it in a sentence."""
    return (
        f'<svg class="chart {kind}" role="img" aria-label="{safe(label)}" width="100%" '
        f'height="{height}" focusable="false">{"".join(parts)}</svg>'
    )


def vertical(x: float, y1: float, y2: float, style: str) -> str:
    """A vertical line."""
    return f'<line class="{style}" x1="{x:.2f}%" x2="{x:.2f}%" y1="{y1}" y2="{y2}"/>'


def below(x: float, height: int, text: str, first: bool = False, last: bool = False) -> str:
    """A label of the axis. The first and the last one stay inside the chart."""
    anchor = "start" if first else "end" if last else "middle"
    return (
        f'<text class="tick" x="{x:.2f}%" y="{height - 6}" text-anchor="{anchor}">{safe(text)}'
        "</text>"
    )
