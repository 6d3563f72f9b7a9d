"""Where the labels of points go, so that none overlaps another label or a point."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

GAP = 8  # pixels between a point's centre and its label
RADIUS = 5  # pixels of a point
# A chart fills its box, whose width is not known: in a wider one points move apart, and their
# labels keep their size. Places that are free at both of these factors are free in between.
SCALES = (1.0, 4.0)


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle in pixels. `left` and `right` are counted from `x`, which moves with the width.

    `x`: in the narrowest chart.
    """

    x: float
    left: float
    right: float
    top: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share any area, in a chart of any width."""
        if self.top >= other.bottom or other.top >= self.bottom:
            return False
        apart = [(other.x - self.x) * scale for scale in SCALES]
        return any(self.left < x + other.right and x + other.left < self.right for x in apart)

    def inside(self, width: float, height: float) -> bool:
        """Whether it lies in the chart."""
        return (
            self.x + self.left >= 0
            and self.x + self.right <= width
            and self.top >= 0
            and self.bottom <= height
        )


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a label's baseline is beside its point, in pixels, and which end of it ("start", ...).

    `anchor`: SVG's text-anchor.
    """

    dx: float
    dy: float
    anchor: str


def place(
    labels: Sequence[tuple[float, float, float, float]],
    points: Sequence[tuple[float, float]],
    width: float,
    height: float,
) -> list[Place | None]:
    """A place for each label, or None where each place is taken. Earlier labels choose first.

    `labels`: x and y of the label's point, width and height of its text. `points`: all points,
    which no label may cover. `width`, `height`: of the chart where it is narrowest.
    """
    taken = [Box(x, -RADIUS, RADIUS, y - RADIUS, y + RADIUS) for x, y in points]
    found: list[Place | None] = []
    for label in labels:
        for spot, box in _places(*label):
            if box.inside(width, height) and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                found.append(spot)
                break
        else:
            found.append(None)
    return found


def _places(x: float, y: float, width: float, height: float) -> Iterator[tuple[Place, Box]]:
    """The places around a point, the best first: right and above read best beside error bars."""
    low = height * 0.3  # of a text's height lies below its baseline
    above, beneath = -GAP, GAP + height - 2 * low
    for dy in (above, beneath, above - height, beneath + height, height / 2 - low):
        for dx, anchor, left in (
            (GAP, "start", GAP),
            (-GAP, "end", -GAP - width),
            (0.0, "middle", -width / 2),
        ):
            base = y + dy
            box = Box(x, left, left + width, base - height + low, base + low)
            yield Place(dx, dy, anchor), box
