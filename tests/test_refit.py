"""`edgekd profiles fit`: measurements become a profile, and unusable ones are named."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgekd.app import cli
from edgekd.assessment import workload
from edgekd.assessment.latency import files, own_device
from edgekd.assessment.latency.fit import Row
from edgekd.assessment.latency.model import Conditions
from edgekd.assessment.refit import refit
from edgekd.core.errors import EdgeKDError, ModelFileError, ProfileError
from edgekd.settings.device_profiles import load_profile
from edgekd.tflite.flatbuffer import read
from tests.lite_graphs import separable

OWN_ROWS = Path(__file__).with_name("own_measurements.csv")
SIZES = [(32, 8), (48, 16), (64, 16), (64, 40), (96, 24), (128, 16), (128, 48), (192, 32)]
SLOWER = 1.7  # the imagined board against the pi4 profile's own coefficients


def measurement(
    folder: Path, number: int, side: int, width: int, noise: float = 0.0, **instead: object
) -> Path:
    """Write a bench JSON and its model into `folder`.

    The time is the prediction of the pi4 profile, times SLOWER, times (1 + noise).
    """
    data = separable(side=side, width=width).bytes()
    folder.mkdir(exist_ok=True)
    (folder / f"m{number}.tflite").write_bytes(data)
    model = files.read(Path(load_profile("pi4").latency))["int8"]
    features = workload.features(workload.work(read(data)))
    time = (
        sum(model.coefficients[name] * features[name] for name in features) * SLOWER * (1 + noise)
    )
    body = {
        "schema": "edgekd.bench/1",
        "model_sha256": hashlib.sha256(data).hexdigest(),
        "emulated": False,
        "runtime": {
            "name": "ai-edge-litert",
            "version": "2.1.2",
            "delegate": "XNNPACK",
            "threads": 4,
        },
        "host": {"cpu": "Cortex-A72"},
        "latency_ms": {"p50": time},
        **instead,
    }
    path = folder / f"m{number}.json"
    path.write_text(json.dumps(body))
    return path


def measurements(folder: Path, count: int = 8, noise: float = 0.03) -> list[Path]:
    random = np.random.default_rng(3)
    return [
        measurement(folder, n, *SIZES[n], noise=float(random.uniform(-noise, noise)))
        for n in range(count)
    ]


def test_eight_models_are_enough(tmp_path: Path):
    made = refit("pi4", measurements(tmp_path / "bench"), [], tmp_path / "out")
    profile = load_profile(str(made.files[0]))
    assert (profile.name, profile.measured_on_hardware) == ("pi4-fitted", True)
    assert profile.memory_mib == load_profile("pi4").memory_mib
    model = files.read(Path(profile.latency))["int8"]
    assert model.factors == ()  # measured with the runtime itself: nothing to scale by
    assert model.errors.mean < 0.05
    features = workload.features(workload.work(separable(side=160, width=32).read()))
    old = files.read(Path(load_profile("pi4").latency))["int8"]
    truth = sum(old.coefficients[name] * features[name] for name in features) * SLOWER
    told = model.predict(features)
    assert told.latency_ms == pytest.approx(truth, rel=0.08)
    assert told.low_ms < truth < told.high_ms
    assert "Cortex-A72" in told.basis


def test_fewer_models_are_wider_and_say_so(tmp_path: Path):
    features = workload.features(workload.work(separable(side=160, width=32).read()))
    few = refit("pi4", measurements(tmp_path / "a", 3), [], tmp_path / "few")
    many = refit("pi4", measurements(tmp_path / "b", 8), [], tmp_path / "many")
    told = [one.models["int8"].predict(features) for one in (few, many)]
    assert told[0].high_ms / told[0].low_ms > told[1].high_ms / told[1].low_ms
    assert any("8 models make it narrower" in line for line in few.lines())
    assert not any("narrower" in line for line in many.lines())


def test_a_profile_without_published_rows_starts_from_the_pi4s(tmp_path: Path):
    made = refit("host", measurements(tmp_path / "bench"), [], tmp_path / "out")
    assert math.isfinite(made.models["int8"].near)
    assert load_profile(str(made.files[0])).latency


def test_models_elsewhere_are_found_by_hash(tmp_path: Path):
    paths = measurements(tmp_path / "bench")
    (tmp_path / "models").mkdir()
    for model in (tmp_path / "bench").glob("*.tflite"):
        model.rename(tmp_path / "models" / f"renamed {model.name}")
    with pytest.raises(ModelFileError, match="is in none of the folders"):
        refit("pi4", paths, [], tmp_path / "out")
    assert refit("pi4", paths, [tmp_path / "models"], tmp_path / "out").models["int8"].rows == 8


@pytest.mark.parametrize(
    ("instead", "words"),
    [
        ({"schema": "other/1"}, "schema"),
        ({"latency_ms": {}}, "p50"),
        ({"latency_ms": {"p50": -1.0}}, "p50 is -1"),
        ({"latency_ms": {"p50": float("nan")}}, "p50 is nan"),
        ({"host": None}, "host: expected object, found null"),
        (
            {
                "runtime": {
                    "name": "tflite-runtime",
                    "version": "2.14",
                    "delegate": "",
                    "threads": 1,
                }
            },
            "one runtime",
        ),
    ],
)
def test_measurements_that_cannot_be_used(tmp_path: Path, instead: dict[str, object], words: str):
    paths = [
        *measurements(tmp_path / "bench", 5),
        measurement(tmp_path / "bench", 7, *SIZES[7], **instead),
    ]
    with pytest.raises(ProfileError, match=words) as caught:
        refit("pi4", paths, [], tmp_path / "out")
    assert "m7.json" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("instead", "why"),
    [
        ({"emulated": True}, "void"),
        ({"latency_ms": {"p50": None}}, "no p50"),
        (
            {"host": {"cpu": None, "throttled": {"before": "0x0", "after": "0x50000"}}},
            "throttled or lacked voltage",
        ),
    ],
)
def test_runs_that_tell_no_time_are_left_out_and_named(
    tmp_path: Path, instead: dict[str, object], why: str
):
    paths = measurements(tmp_path / "bench", 6)
    void = measurement(tmp_path / "bench", 7, *SIZES[7], **instead)
    made = refit("pi4", [*paths, void], [], tmp_path / "out")
    assert len(made.models["int8"].factors[0].ratios) == 6
    assert any("m7.json" in line and why in line for line in made.lines())
    with pytest.raises(ProfileError, match="none of the 1 runs"):
        refit("pi4", [void], [], tmp_path / "other")


def test_too_few_models(tmp_path: Path):
    paths = measurements(tmp_path / "bench", 2)
    with pytest.raises(ProfileError, match="4 measurements of 2 models; 1 more model"):
        refit("pi4", [*paths, *paths], [], tmp_path / "out")
    with pytest.raises(ProfileError, match="1 measurement of 1 model; 2 more models"):
        refit("pi4", paths[:1], [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_three_models_are_enough_to_start(tmp_path: Path):
    """The interval holds the truth for a network of another size, and is no wider than a factor
    of 3.
    """
    made = refit("pi4", measurements(tmp_path / "bench", 3), [], tmp_path / "out")
    model = made.models["int8"]
    features = workload.features(workload.work(separable(side=160, width=32).read()))
    old = files.read(Path(load_profile("pi4").latency))["int8"]
    truth = sum(old.coefficients[name] * features[name] for name in features) * SLOWER
    told = model.predict(features)
    assert told.low_ms < truth < told.high_ms < 3 * told.low_ms
    assert told.latency_ms == pytest.approx(truth, rel=0.05)
    assert model.coefficients == old.coefficients  # three models give one number: a factor
    assert model.factors[0].value == pytest.approx(SLOWER, rel=0.03)
    assert made.record().factor == {"int8": model.factors[0].value}
    assert made.record().prior_weight == {}
    assert told.basis.startswith(
        "for Raspberry Pi 4 Model B, Cortex-A72, ai-edge-litert 2.1.2 with"
    )
    assert "(3 networks measured there)" in told.basis
    assert "int8 factor from 3 own measurements" in made.files[0].read_text()


@pytest.mark.parametrize("count", [3, 5, 7, 9])
def test_real_measurements_of_this_kind_of_machine(count: int):
    """The first `count` of 13 networks that were measured on x86-64 predict the others.

    `edgekd bench --local --threads 1`, ai-edge-litert 2.1.2 with XNNPACK. The published model is a
    Pi 4's, so a factor of 3 is not much: all intervals hold, and say how little is known.
    """
    with OWN_ROWS.open(encoding="utf-8", newline="") as file:
        rows = [
            Row(
                row["model"],
                row["model"],
                {name: float(row[name]) for name in workload.FEATURES},
                float(row["latency_ms"]),
                "own measurement",
            )
            for row in csv.DictReader(file)
        ]
    start = files.read(Path(load_profile("pi4").latency))["int8"]
    start = msgspec.structs.replace(start, near=start.far)  # as for `profiles fit host`
    at = Conditions("x86-64", "ai-edge-litert 2.1.2", "XNNPACK", 1)
    model = own_device.fitted(rows[:count], start, at, "int8").model
    for row in rows[count:]:
        told = model.predict(row.features)
        assert told.low_ms < row.latency_ms < told.high_ms
        assert 1 / 3 < told.latency_ms / row.latency_ms < 3


def test_nothing_is_overwritten(tmp_path: Path):
    paths = measurements(tmp_path / "bench")
    refit("pi4", paths, [], tmp_path / "out")
    with pytest.raises(ProfileError, match="exists already"):
        refit("pi4", paths, [], tmp_path / "out")


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    paths = [str(path) for path in measurements(tmp_path / "bench")]
    assert (
        cli.main(["profiles", "fit", "pi4", *paths, "--out", str(tmp_path / "out"), "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["profile"] == "pi4-fitted"
    assert cli.main(["profiles", "fit", "pi4"]) == 2
    assert cli.main(["profiles", "pi4", "pi5"]) == 2
    assert cli.main(["profiles", "fit", "pi4", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err


def test_errors_are_products(tmp_path: Path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(EdgeKDError, match="not JSON"):
        refit("pi4", [tmp_path / "x.json"], [], tmp_path)
