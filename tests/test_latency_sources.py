"""Factors between sources of latencies: how they are shrunk, and what a prediction says of them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from edgekd.assessment import workload
from edgekd.assessment.latency import files, sources
from edgekd.assessment.latency.model import Conditions
from edgekd.assessment.latency.sources import Source
from edgekd.assessment.prediction import pricing
from edgekd.core.records import present
from edgekd.settings.device_profiles import load_profile
from tests.conftest import REPOSITORY
from tools import fit_profile
from tools.published_networks import mobilenet_v2

OWN = Conditions("board", "TFLite 1", "ruy", 4)


def source(runtime: str, kernels: str, *logs: float) -> Source:
    named = {f"network {number}": log for number, log in enumerate(logs)}
    return Source(Conditions("board", runtime, kernels, 4), named, (f"https://{runtime}",))


def test_few_networks_move_a_factor_less_than_many():
    """The mean of n networks counts n / (n + 1) against the level of the library, here 0."""
    two, many = source("A", "ruy", 0.3, 0.3), source("B", "ruy", *[0.3] * 29)
    every = [two, many]
    assert math.log(sources.factor(two, every, OWN).value) == pytest.approx(0.3 * 2 / 3)
    assert math.log(sources.factor(many, every, OWN).value) == pytest.approx(0.3 * 29 / 30)


def test_a_library_has_a_level_over_its_sources_and_the_fits_own_stays_at_one():
    every = [
        source("A", "XNNPACK", -0.2, -0.2),
        source("B", "XNNPACK", -0.4),
        source("C", "ruy", 1),
    ]
    level = sources.level(every, "XNNPACK", "ruy")
    assert level == pytest.approx(-0.3 * 3 / 4)
    assert sources.level(every, "ruy", "ruy") == 0
    assert sources.level(every, "other", "ruy") == 0
    drawn = math.log(sources.factor(every[1], every, OWN).value)
    assert drawn == pytest.approx(level + (-0.4 - level) / 2)


def test_sources_that_do_not_state_their_kernels_say_nothing_of_each_other():
    unstated = [source("A", "", 0.5), source("B", "", -0.5)]
    assert sources.level(unstated, "", "ruy") == 0
    assert sources.between(unstated, OWN) is None


def test_the_spread_between_sources_is_that_of_their_means():
    apart = sources.between([source("A", "ruy", 0.1), source("B", "ruy", -0.1)], OWN)
    assert apart is not None
    assert apart.value == 1
    assert sorted(map(math.log, apart.ratios.values())) == pytest.approx([-0.1, 0.1])
    one = sources.between([source("A", "XNNPACK", 0.1)], OWN)
    assert one is None


@pytest.mark.parametrize(
    ("runtime", "threads", "words"),
    [
        ("cpu:tflite-2.18-xnnpack", "4", "TFLite 2.18 with XNNPACK, 4 threads"),
        ("cpu:tflite-2.5.0", "1", "TFLite 2.5.0, 1 thread"),
        ("cpu:xnnpack", "all", "the library's own benchmark of 2022 with XNNPACK, 4 threads"),
        ("edgetpu", "", "edgetpu, 1 thread"),
    ],
)
def test_conditions_are_read_from_a_row(runtime: str, threads: str, words: str):
    row = {"device": "Pi", "runtime": runtime, "threads": threads}
    assert fit_profile.conditions(row).words() == f"Pi, {words}, governor not stated"


@pytest.mark.parametrize("name", ["pi4", "pi5", "pi3", "pi-zero-2w"])
def test_a_prediction_names_what_it_is_for(name: str):
    profile = load_profile(name)
    for model in files.read(Path(profile.latency)).values():
        at = present(model.conditions)
        assert at is not None
        assert (at.runtime, at.kernels, at.threads) == ("TFLite 2.18", "XNNPACK", profile.threads)
        assert model.basis().startswith(f"for {at.words()}: ")


def test_another_number_of_threads_is_another_prediction():
    """A Pi 4 with one thread is 2 to 3.5 times as slow as with four, and the interval is wider."""
    model = files.read(Path(load_profile("pi4").latency))["int8"]
    features = workload.features(mobilenet_v2(0.5, 96, "int8"))
    four, one = model.predict(features), model.with_threads(1).predict(features)
    assert 2 < one.latency_ms / four.latency_ms < 3.5
    assert one.high_ms / one.low_ms > four.high_ms / four.low_ms
    assert "1 thread, governor" in one.basis
    assert model.with_threads(7) is model
    found = pricing(load_profile("pi4"), "int8")
    assert found is not None
    assert found.model == model


def test_the_published_sources_lie_where_their_factors_say():
    """With its own factor, each large source of the Pi 4 has no bias, and 90 % of its networks are
    held.
    """
    rows = fit_profile.read_rows("pi4")
    model = fit_profile.fit("pi4")["int8"]
    every = fit_profile.measured_sources(rows, "int8", model)
    own = fit_profile.own_conditions(rows, "int8")
    large = [one for one in every.values() if len(one.logs) > 6]
    assert len(large) == 2
    for one in large:
        factor = sources.factor(one, list(every.values()), own)
        left = [log - math.log(factor.value) for log in one.logs.values()]
        width = math.hypot(model.near, factor.spread)
        assert abs(sum(left) / len(left)) < 0.01
        assert sum(abs(log) <= width for log in left) / len(left) >= 0.9


def test_the_rows_that_were_kept_aside_are_in_no_profile():
    with (REPOSITORY / "tools" / "kept_aside_rows.csv").open(encoding="utf-8", newline="") as file:
        aside = {row["source"] for row in csv.DictReader(file)}
    assert len(aside) == 10
    for path in (REPOSITORY / "device_profiles").glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            assert not aside & {row["source"] for row in csv.DictReader(file)}
