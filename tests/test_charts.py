"""Charts: marks are where the figures say, and texts from outside are escaped."""

from __future__ import annotations

import math
import re

import pytest

from edgekd.reporting import charts, interval_charts
from edgekd.reporting.text import points
from tests.html_reader import HOSTILE, Page


def test_charts_escape_what_they_are_given():
    made = [
        interval_charts.intervals(
            [interval_charts.Interval(HOSTILE, 0.5, 0.4, 0.6, HOSTILE)], HOSTILE
        ),
        charts.lines([charts.Line(HOSTILE, [(1, 2), (2, 3)], HOSTILE)], HOSTILE),
        charts.histogram([1, 2, 3], {HOSTILE: 2}, HOSTILE, HOSTILE),
        charts.bar(0.5, HOSTILE),
    ]
    for chart in made:
        read = Page(chart)
        assert not {name for _, name, _ in read.attributes} & {"onerror", "src"}


def test_changes_lie_where_the_figures_say():
    rows = [
        interval_charts.Change("a", -0.02, -0.04, 0.0, 0.01),
        interval_charts.Change("b", 0.01, 0.0, 0.02, None, "x", "beyond"),
    ]
    chart = interval_charts.changes(rows, "x")
    assert re.findall(r'circle cx="([\d.]+)%"', chart) == ["33.33", "83.33"]
    assert 'class="zero" x1="66.67%"' in chart
    assert 'x="50.00%" width="16.67%"' in chart  # what "a" may lose: a point
    assert interval_charts.changes([], "x") == ""
    assert 'circle cx="50.00%"' in interval_charts.changes(
        [interval_charts.Change("a", 0, 0, 0)], "x"
    )
    assert points(-0.012) == "−1.2"
    assert points(-0.0001) == "0.0"


def test_dots_lie_where_the_figures_say():
    chart = interval_charts.intervals(
        [
            interval_charts.Interval("a", 0.80, 0.70, 0.90),
            interval_charts.Interval("b", 0.85, 0.75, 0.90),
        ],
        "x",
    )
    read = Page(chart)
    first, second = (float(value.rstrip("%")) for value in read.values("circle", "cx"))
    ends = sorted({float(v.rstrip("%")) for v in read.values("line", "x1")})
    assert ends[0] == 0
    assert ends[-1] == 100
    assert first == pytest.approx(50, abs=0.01)  # the axis runs from 70 to 90 %
    assert second == pytest.approx(75, abs=0.01)
    assert [text for text in read.texts if re.fullmatch(r"8\d\.\d%", text)] == ["80.0%", "85.0%"]
    assert [text for text in read.texts if text in ("70%", "90%")] == ["70%", "90%"]


def test_tick_labels_tell_the_place_exactly():
    for low, high in (
        (0.835, 0.923),
        (0.5, 0.52),
        (0.0, 1.0),
        (0.97, 0.99),
        (0.9, 0.902),
        (1.0, 1.0),
    ):
        chart = interval_charts.intervals([interval_charts.Interval("a", low, low, high)], "x")
        marks = re.findall(r'class="tick" x="([\d.]+)%"[^>]*>([\d.]+)%<', chart)
        places, values = [float(x) for x, _ in marks], [float(v) for _, v in marks]
        assert 2 <= len(marks) <= 6
        assert values[0] <= 100 * low + 1e-9
        assert values[-1] >= 100 * high - 1e-9
        for place, value in zip(places, values, strict=True):
            assert place == pytest.approx(
                100 * (value - values[0]) / (values[-1] - values[0]), abs=0.02
            )


def test_lines_end_at_the_last_epoch_and_skip_what_is_missing():
    chart = charts.lines([charts.Line("loss", [(1, 1.0), (2, math.nan), (3, 0.5), (4, 0.25)])], "x")
    points = [
        tuple(map(float, pair.split(",")))
        for pair in Page(chart).values("polyline", "points")[0].split()
    ]
    assert [round(x) for x, _ in points] == [0, 67, 100]
    assert points[0][1] < points[1][1] < points[2][1]  # y grows downwards, the loss falls
    assert (points[1][1] - points[0][1]) / (points[2][1] - points[1][1]) == pytest.approx(
        2, abs=0.01
    )
    assert "loss: 0.25 at epoch 4" in chart
    assert charts.lines([charts.Line("loss", [])], "x") == ""


def test_the_histogram_counts_every_sample():
    samples = [1.0] * 30 + [1.5] * 60 + [2.0] * 9 + [50.0]
    chart = charts.histogram(samples, {"p50": 1.5, "p99": 2.0}, "ms", "x")
    counts = [int(count) for count in re.findall(r"<title>(\d+) of 100", chart)]
    assert sum(counts) == 100
    assert {30, 60} <= set(counts)
    assert "1 beyond" in chart  # the stall does not squeeze the rest
    places = [float(x) for x in re.findall(r'<text class="mark" x="([\d.]+)%"', chart)]
    assert places == pytest.approx([40, 80], abs=0.01)  # the axis runs from 1 to 2.25 ms
    assert charts.histogram([], {}, "ms", "x") == ""
    assert "5 of 5" in charts.histogram([2.0] * 5, {"p50": 2.0}, "ms", "x")


def test_bars_are_in_proportion():
    assert 'width="25.00%"' in charts.bar(0.25)
    assert 'width="100.00%"' in charts.bar(7)
