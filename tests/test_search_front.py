"""Pareto fronts over points with intervals, and the files of a search."""

from __future__ import annotations

import pytest

from edgekd.core.errors import ModelFileError
from edgekd.reporting.pareto import Point, Standing, standings
from edgekd.search import front, published
from edgekd.search.record import FrontBasis, SearchState, Source
from tests.sample_search import search


def point(score, latency, wide=0.01):
    return Point(score, (score - wide, score + wide), latency, (latency * 0.9, latency * 1.1))


def test_the_front_holds_what_no_other_dominates():
    rows = [point(0.90, 2), point(0.95, 5), point(0.80, 5), point(0.95, 9), point(0.85, 2)]
    assert standings(rows) == [
        Standing.ON,
        Standing.ON,
        Standing.BEHIND,
        Standing.WITHIN_CHANCE,  # slower for sure, but perhaps more accurate
        Standing.BEHIND,
    ]


def test_intervals_that_overlap_leave_a_point_within_chance():
    best, near = point(0.95, 5.0), point(0.945, 5.1)
    assert standings([best, near]) == [Standing.ON, Standing.WITHIN_CHANCE]
    sure = point(0.95, 5.0, wide=0), point(0.945, 5.0, wide=0)
    assert standings(sure) == [Standing.ON, Standing.BEHIND]


def test_equal_points_are_both_on_the_front():
    assert standings([point(0.9, 3), point(0.9, 3)]) == [Standing.ON, Standing.ON]
    assert standings([]) == []


def test_finalists_make_the_front_on_every_device_and_trials_before_there_is_one():
    found = front.fronts(search())
    assert [row.profile for row in found] == ["pi4", "android-cpu"]
    assert {row.basis for row in found} == {FrontBasis.FINALISTS}
    assert [point.candidate for point in found[0].points] == [
        row.candidate
        for row in sorted(search().finalists, key=lambda row: row.latency("pi4").latency_ms)
    ]
    early = front.fronts(search(SearchState.INTERRUPTED))
    assert {row.basis for row in early} == {FrontBasis.TRIALS}
    assert {point.source for row in early for point in row.points} == {Source.PREDICTED}
    assert front.fronts(search(SearchState.NOTHING_FITS)) == []


@pytest.mark.parametrize("state", SearchState)
def test_the_file_says_what_was_written(state, tmp_path):
    published.write(tmp_path, search(state))
    assert published.read(tmp_path) == search(state)


def test_a_folder_without_a_search_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"search\.json does not exist\n.*edgekd search"):
        published.read(tmp_path)
