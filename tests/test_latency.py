"""The latency model: its solver, the errors that are documented, intervals, foreign networks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy

from edgekd.assessment import workload
from edgekd.assessment.latency import files
from edgekd.assessment.latency.fit import Prior, Row, errors, fit, folds, held_out, networks
from edgekd.assessment.latency.model import measured_factor
from edgekd.assessment.latency.nonnegative import nnls
from edgekd.core.errors import ProfileError
from edgekd.settings.device_profiles import load_profile, profile_names
from edgekd.tflite.flatbuffer import read
from tests.conftest import REPOSITORY, SHARED
from tests.lite_graphs import separable
from tools import fit_profile
from tools.published_networks import mobilenet_v1, mobilenet_v2

PI4 = fit_profile.fit_rows(fit_profile.read_rows("pi4"), "int8")


def test_nnls_finds_the_least_squares_where_it_is_positive():
    random = np.random.default_rng(0)
    matrix = random.random((30, 5))
    truth = np.array([1.0, 0.0, 2.0, 0.5, 0.0])
    assert nnls(matrix, matrix @ truth) == pytest.approx(truth, abs=1e-9)


def test_nnls_meets_the_conditions_of_karush_kuhn_and_tucker():
    """x >= 0, the gradient is <= 0 where x = 0, and 0 where x > 0.

    The problem is convex, so no other point is better.
    """
    random = np.random.default_rng(1)
    for _ in range(20):
        matrix, target = (
            random.normal(size=(12, 6)) * 10.0 ** random.integers(-6, 6, 6),
            random.normal(size=12),
        )
        found = nnls(matrix, target)
        gradient = matrix.T @ (target - matrix @ found) / np.linalg.norm(matrix, axis=0)
        assert (found >= 0).all()
        assert (gradient < 1e-8).all()
        assert np.abs(gradient[found > 0]).max(initial=0.0) < 1e-8


@pytest.mark.parametrize("seed", range(25))
def test_nnls_agrees_with_scipy(seed: int):
    """scipy.optimize.nnls as a second opinion, on random problems with columns of any scale."""
    random = np.random.default_rng(seed)
    rows, columns = int(random.integers(3, 40)), int(random.integers(1, 10))
    matrix = random.normal(size=(rows, columns)) * 10.0 ** random.integers(-3, 4, columns)
    target = random.normal(size=rows) * 10.0 ** random.integers(-3, 4)
    found, (expected, residual) = nnls(matrix, target), scipy.optimize.nnls(matrix, target)
    assert np.linalg.norm(matrix @ found - target) == pytest.approx(residual, rel=1e-9)
    if columns <= rows:  # otherwise several solutions are equally good
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9 * expected.max(initial=1e-300))


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("profile", ["pi4", "android-cpu", "coral-dev-board"])
def test_the_fit_of_published_rows_agrees_with_scipy(profile: str, precision: str):
    """The relative residual of our fit is scipy's, on the rows that the profiles rest on."""
    rows = fit_profile.fit_rows(fit_profile.read_rows(profile), precision)
    if not rows:
        pytest.skip(f"{profile} has no {precision} rows")
    relative = np.array([list(row.features.values()) for row in rows], np.float64)
    relative /= np.array([row.latency_ms for row in rows])[:, None]
    scale = np.linalg.norm(relative, axis=0)
    scaled, ones = relative / np.where(scale, scale, 1), np.ones(len(rows))
    _, residual = scipy.optimize.nnls(scaled, ones)
    assert np.linalg.norm(scaled @ nnls(scaled, ones) - 1) == pytest.approx(residual, rel=1e-6)


def test_pi4_errors_and_coverage_are_as_promised():
    """At most 5 % in 5 folds, at most 12 % across families.

    The 90 % intervals hold 85 to 97 % of the rows that were not seen.
    """
    assert len(PI4) == 37
    found = errors(PI4)
    assert found.mean <= 0.05
    assert found.family_mean is not None
    assert found.family_mean <= 0.12
    assert 0.85 <= found.coverage <= 0.97


def test_the_errors_are_those_of_rows_not_seen():
    """A row that is wrong by a factor of 3 must show up as such: it cannot fit itself."""
    spoilt = [
        *PI4[:-1],
        Row(PI4[-1].model, PI4[-1].family, PI4[-1].features, PI4[-1].latency_ms * 3, "spoilt"),
    ]
    logs = held_out(spoilt, networks(spoilt))
    assert abs(logs[-1]) > math.log(2.5)


def test_a_network_measured_twice_does_not_predict_itself():
    twice = [*PI4, *PI4]
    groups = folds(twice, 0)
    assert groups[: len(PI4)] == groups[len(PI4) :]


def test_families_are_predicted_from_each_other_both_ways():
    logs = held_out(PI4, [row.family for row in PI4])
    for family in ("MobileNetV1", "MobileNetV2"):
        wrong = [
            abs(1 - math.exp(-log))
            for log, row in zip(logs, PI4, strict=True)
            if row.family == family
        ]
        assert sum(wrong) / len(wrong) <= 0.12


@pytest.mark.parametrize("name", [name for name in profile_names() if load_profile(name).latency])
def test_the_latency_files_are_what_the_rows_beside_them_give(name: str):
    stored = files.read(Path(load_profile(name).latency))
    assert files.same(fit_profile.fit(name), stored)
    for row in fit_profile.read_rows(name):
        assert row["source"].startswith(("https://", "edge-bench"))


def test_few_ratios_make_wide_factors_and_assumed_ones_say_so():
    two, six = (
        measured_factor("x", {"a": 1.0, "b": 1.2}, ()),
        measured_factor("x", {str(i): 1.0 + 0.2 * (i % 2) for i in range(6)}, ()),
    )
    assert two.spread > 3 * six.spread
    assert two.value == pytest.approx(math.sqrt(1.2))
    zero = files.read(Path(load_profile("pi-zero-2w").latency))["int8"]
    assert "never measured" in zero.basis()
    pi3, pi4 = (files.read(Path(load_profile(name).latency))["int8"] for name in ("pi3", "pi4"))
    features = workload.features(mobilenet_v2(0.5, 96, "int8"))
    widths = [
        told.high_ms / told.latency_ms for told in (m.predict(features) for m in (pi4, pi3, zero))
    ]
    assert widths == sorted(widths)


def test_a_foreign_network_gets_the_wider_interval_and_the_reason():
    model = files.read(Path(load_profile("pi4").latency))["int8"]
    usual = workload.features(mobilenet_v2(1.0, 224, "int8"))
    dense = {**usual, "dense": usual["pointwise"], "pointwise": 0.0}
    for features, words in (
        (dense, "dense"),
        ({name: value * 20 for name, value in usual.items()}, "rows reach"),
        ({**usual, "parameter_bytes": usual["parameter_bytes"] * 20}, "parameter_bytes makes"),
    ):
        far, near = model.predict(features), model.predict(usual)
        assert far.high_ms / far.latency_ms > near.high_ms / near.latency_ms
        assert words in far.basis
    assert "wide" not in model.predict(usual).basis


def test_dense_convolutions_are_not_free_where_no_row_has_any():
    model = files.read(Path(load_profile("pi4").latency))["int8"]
    assert model.coefficients["dense"] == model.coefficients["pointwise"] > 0


def test_far_below_the_rows_the_upper_bound_is_the_fastest_row():
    model = fit(PI4, "Pi 4", "ruy", 4, "int8")
    told = model.predict({name: value * 1e-3 for name, value in PI4[0].features.items()})
    assert told.high_ms >= min(row.latency_ms for row in PI4)


def test_eight_models_are_enough_with_a_prior():
    """Eight rows of another device (the CPU of a Pixel 3), chosen by seed, predict the others."""
    prior = Prior(fit(PI4, "", "", 4, "int8").coefficients, 0.3)
    rows = fit_profile.fit_rows(fit_profile.read_rows("android-cpu"), "int8")
    wrong = []
    for seed in range(10):
        chosen = np.random.default_rng(seed).permutation(len(rows))
        model = fit([rows[i] for i in chosen[:8]], "Pixel 3", "cpu", 4, "int8", prior=prior)
        wrong += [
            abs(1 - model.predict(rows[i].features).latency_ms / rows[i].latency_ms)
            for i in chosen[8:]
        ]
    assert sum(wrong) / len(wrong) < 0.1


def test_the_published_networks_have_the_work_of_real_files():
    folder = SHARED / "data" / "tflite"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: real models are not part of the repository")
    found = workload.features(
        workload.work(read((folder / "mobilenet_v1_0.25_128_quant.tflite").read_bytes()))
    )
    assert found == pytest.approx(workload.features(mobilenet_v1(0.25, 128, "int8")), rel=1e-4)
    found = workload.features(
        workload.work(read((folder / "tf2_mobilenet_v2_1.0_224_ptq.tflite").read_bytes()))
    )
    expected = workload.features(mobilenet_v2(1.0, 224, "int8"))
    for name in (
        workload.MAC_CLASSES
    ):  # the file has two QUANTIZE more, so ops and moved bytes differ a little
        assert found[name] == expected[name]


def test_published_macs():
    """MACs stated in the papers, at 224 px: 569 million for MobileNetV1, 300 million for V2."""
    for build, macs in ((mobilenet_v1, 569e6), (mobilenet_v2, 300e6)):
        assert sum(row.macs for row in build(1.0, 224, "int8")) == pytest.approx(macs, rel=0.01)


def test_the_work_of_a_small_graph_by_hand():
    works = workload.work(separable(side=64, width=16).read())
    stem, depthwise, pointwise = works[:3]
    assert (stem.kind, stem.macs) == ("stem", 32 * 32 * 16 * 9 * 3)
    assert (depthwise.kind, depthwise.macs) == ("depthwise", 32 * 32 * 16 * 9)
    assert (pointwise.kind, pointwise.macs, pointwise.moved_bytes) == (
        "pointwise",
        32 * 32 * 16 * 32,
        32 * 32 * (16 + 32),
    )
    assert pointwise.parameter_bytes == 16 * 32 + 4 * 32
    assert (works[-1].kind, works[-1].macs) == ("fc", 320)
    assert works[-2].moved_bytes == 0  # a RESHAPE moves nothing


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"schema": "other/1", "models": {}}',
        '{"schema": "edgekd.latency/1", "models": {"int8": {}}}',
        '{"schema": "edgekd.latency/1", "models": 3}',
    ],
)
def test_a_broken_latency_file_is_named(tmp_path: Path, text: str):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ProfileError, match=r"x\.json"):
        files.read(path)


def test_negative_costs_are_refused(tmp_path: Path):
    body = json.loads((REPOSITORY / "device_profiles" / "pi4.latency.json").read_text())
    body["models"]["int8"]["coefficients"]["pointwise"] = -1.0
    (tmp_path / "x.json").write_text(json.dumps(body))
    with pytest.raises(ProfileError, match="negative"):
        files.read(tmp_path / "x.json")


@pytest.mark.parametrize("seed", range(20))
def test_of_columns_that_are_multiples_of_each_other_the_first_is_taken(seed: int):
    """The fit of a profile must not depend on the machine.

    Sums over the rows differ in their last bits from machine to machine.
    """
    rng = np.random.default_rng(seed)
    column = rng.uniform(0.1, 3, 17)
    found = nnls(
        np.stack([column, column * rng.uniform(0.1, 9), np.zeros(17)], 1),
        column * rng.uniform(0.9, 1.1, 17),
    )
    assert found[0] > 0
    assert found[1] == found[2] == 0
