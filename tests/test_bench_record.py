"""The runner knows nothing of the records, so these tests hold what it prints against them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
from bench_answers import bench_of
from tiny_tflite import tiny

from edgekd.core.records import from_json, to_json
from edgekd.device import bench_record, edgebench
from edgekd.device.bench_record import Bench, BenchFailure

HOSTS = {"profile", "transport", "emulated", "micro"}  # the fields that the host adds
HOST_RECORDS = {"MicroAnswers"}  # what only the host measures


def printed(folder: Path, *words: str) -> dict[str, Any]:
    """What one run of the runner prints for a small model."""
    made = tiny()
    (folder / "m.tflite").write_bytes(made.model)
    (folder / "g.npz").write_bytes(made.golden())
    quick = ["--threads", "1", "--runs", "5", "--min-seconds", "0", "--warmup-runs", "10"]
    runner = [sys.executable, "-I", edgebench.__file__]
    ran = subprocess.run([*runner, *quick, *words], cwd=folder, capture_output=True, check=False)
    return json.loads(ran.stdout)


@pytest.mark.parametrize(
    "words",
    [
        ["--model", "m.tflite"],
        ["--model", "m.tflite", "--golden", "g.npz", "--soak", "0.01", "--cores", "0"],
    ],
)
def test_what_the_runner_prints_is_the_record(tmp_path, words):
    found = printed(tmp_path, *words)
    kept = to_json(bench_of(found, "host", "local"))
    assert {name: kept[name] for name in kept if name not in HOSTS} == found


def test_the_runners_error_is_the_record(tmp_path):
    found = printed(tmp_path, "--model", "none.tflite")
    assert to_json(from_json(BenchFailure, found, "the error")) == found
    assert found["schema"] == "edgekd.bench-error/1"


TYPES = {
    "Result": ("Bench", HOSTS),
    "ErrorJson": ("BenchFailure", set()),
    "Host": ("Host", set()),
    "HostBefore": ("HostBefore", set()),
    "Throttled": ("Throttled", set()),
    "RuntimeUsed": ("Runtime", set()),
    "Settings": ("Settings", set()),
    "Latency": ("LatencyMs", set()),
    "Memory": ("MemoryKib", {"load_growth", "run_growth"}),
    "FurtherAnswers": ("FurtherAnswers", set()),
    "GoldenAnswers": ("GoldenAnswers", set()),
    "Soak": ("Soak", set()),
    "SoakWindow": ("SoakWindow", set()),
}


@pytest.mark.parametrize("name", TYPES)
def test_the_runners_types_have_the_records_fields(name):
    record, added = TYPES[name]
    fields = {field.encode_name for field in msgspec.structs.fields(getattr(bench_record, record))}
    assert set(get_type_hints(getattr(edgebench, name))) == fields - added


def test_every_record_is_held_against_the_runner():
    records = {
        name
        for name, value in vars(bench_record).items()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and name != "Record"
    }
    assert records - HOST_RECORDS == {record for record, _ in TYPES.values()}
    assert Bench.__struct_fields__[:5] == (
        "schema",
        "model_sha256",
        "runner_version",
        "profile",
        "transport",
    )
