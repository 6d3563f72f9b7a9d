"""The chart of points with intervals: where points and labels are, at any width."""

from __future__ import annotations

import random
import re

import pytest

from edgekd.reporting import label_places, scatter
from edgekd.reporting.scatter import Dot, Frame, Limit, Title

TITLES = (
    Title("ms", lambda value, _: f"{value:g}"),
    Title("AUC", lambda value, _: f"{value:.2f}"),
)
FRAME = Frame(400, 300)


def drawn(dots, **options):
    return scatter.scatter(dots, TITLES, "label", FRAME, **options)


def places(svg):
    """(x in percent, y in pixels) of each point."""
    found = re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)"', svg)
    return [(float(x), float(y)) for x, y in found]


def test_points_lie_where_the_figures_say():
    (first, second, third) = places(drawn([Dot("a", 0, 0.8), Dot("b", 5, 0.9), Dot("c", 10, 1.0)]))
    assert [first[0], second[0], third[0]] == [0, 50, 100]
    assert first[1] - second[1] == pytest.approx(second[1] - third[1])
    assert first[1] == FRAME.foot


def test_a_wide_range_gets_a_logarithmic_axis():
    (first, second, third) = places(drawn([Dot("a", 1, 0.9), Dot("b", 10, 0.9), Dot("c", 100, 1)]))
    assert [first[0], second[0], third[0]] == [0, 50, 100]
    assert scatter.log_ticks(0.7, 43) == [0.5, 1, 2, 5, 10, 20, 50]


def test_limits_and_intervals_are_inside_the_chart():
    svg = drawn(
        [Dot("a", 3, 0.9, (2, 7), (0.85, 0.99))], limits=(Limit(9, "9 ms"), Limit(0.7, "least"))
    )
    ends = [float(x) for x in re.findall(r'x[12]="([\d.]+)%"', svg)]
    assert max(ends) <= 100
    assert ">9 ms<" in svg
    heights = [float(y) for y in re.findall(r' y[12]="([\d.]+)"', svg)]
    assert 0 <= min(heights) <= max(heights) <= FRAME.height


def test_the_front_is_drawn_in_steps():
    svg = drawn([Dot("a", 0, 0.8), Dot("b", 10, 1.0)], front=[(0, 0.8), (10, 1.0)])
    (a, b, c) = re.search(r'polyline points="([^"]+)"', svg)[1].split()
    assert [a, b, c] == [f"0.00,{FRAME.foot}.00", f"100.00,{FRAME.foot}.00", "100.00,14.00"]


def test_nothing_is_drawn_of_nothing():
    assert drawn([]) == ""
    assert drawn([Dot("a", float("nan"), 0.9)]) == ""
    # A logarithmic axis has no zero.
    mixed = [Dot("a", 0, 0.5), Dot("b", 1, 0.5), Dot("c", 100, 0.5)]
    svg = drawn(mixed, front=[(0, 0.5), (1, 0.5)], limits=(Limit(0, "none"), None))
    assert len(places(svg)) == 2


@pytest.mark.parametrize("wider", [1, 1.7, 4])
def test_labels_overlap_neither_each_other_nor_a_point_at_any_width(wider):
    luck = random.Random(0)
    points = [(luck.uniform(0, 400), luck.uniform(0, 300)) for _ in range(60)]
    labels = [(x, y, luck.uniform(20, 160), 15.0) for x, y in points[:40]]
    found = label_places.place(labels, points, 400, 300)
    boxes = [(x * wider - 5, y - 5, x * wider + 5, y + 5) for x, y in points]
    assert sum(spot is not None for spot in found) > 10
    for (x, y, width, height), spot in zip(labels, found, strict=True):
        if spot is None:
            continue
        left = x * wider + spot.dx - {"start": 0, "middle": width / 2, "end": width}[spot.anchor]
        base = y + spot.dy + height * 0.3
        box = (left, base - height, left + width, base)
        assert not [
            other
            for other in boxes
            if box[0] < other[2] - 1e-9
            and other[0] < box[2] - 1e-9
            and box[1] < other[3] - 1e-9
            and other[1] < box[3] - 1e-9
        ]
        boxes.append(box)
