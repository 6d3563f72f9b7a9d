"""Measurements are kept, read back with care, and compared with noise in mind."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest
import sshd
from bench_answers import answer, bench_of
from tiny_tflite import tiny

from edgekd.app import cli
from edgekd.core.errors import StoreError
from edgekd.core.records import from_json, to_json
from edgekd.device import bench, bench_history
from edgekd.device.bench_record import Bench
from edgekd.settings.device_profiles import load_profile

PI4 = load_profile("pi4")


def measured(p50: float, jitter: float = 0.0, seed: int = 0, **instead: object) -> dict:
    """A bench JSON of 100 samples around `p50`. `jitter`: the spread between fifths of the run."""
    drawn = random.Random(seed)
    samples = [
        p50 * level
        for level in (1 + jitter * drawn.gauss(0, 1) for _ in range(5))
        for _ in range(20)
    ]
    body = to_json(bench.completed(bench_of(answer(b"m"), "pi4", "ssh"), PI4))
    body["latency_ms"] = {**body["latency_ms"], "p50": p50, "samples": samples}
    return {**body, **instead}


def keep(folder, body: dict):
    return bench_history.keep(folder, from_json(Bench, body, "a bench"))


def test_runs_accumulate_and_are_never_overwritten(tmp_path):
    paths = [keep(tmp_path, measured(10.0 + number)) for number in range(3)]
    assert len(set(paths)) == 3
    assert [run.p50 for run in bench_history.kept(tmp_path)] == [10.0, 11.0, 12.0]
    assert all(path.parent == tmp_path / "bench" for path in paths)


def test_names_of_profiles_cannot_leave_the_folder(tmp_path):
    path = keep(tmp_path, measured(1.0, profile="../../etc; rm 'x' \"y\""))
    assert path.parent == tmp_path / "bench"
    assert not set("'\"; ") & set(path.name)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "bench").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        keep(tmp_path, measured(1.0))


def test_what_is_no_measurement_is_left_out(tmp_path):
    folder = tmp_path / "bench"
    folder.mkdir()
    good = measured(10.0)
    wrong = {
        "text": "{",
        "list": [],
        "emulated": {**good, "emulated": True},
        "schema": {**good, "schema": "x"},
        "no p50": {**good, "latency_ms": {**good["latency_ms"], "p50": None}},
        "nan": {**good, "latency_ms": {**good["latency_ms"], "p50": float("nan")}},
        "escape": {**good, "transport": "\x1b[2J"},
        "host": {**good, "host": []},
    }
    for name, body in wrong.items():
        (folder / f"{name}.json").write_text(body if isinstance(body, str) else json.dumps(body))
    keep(tmp_path, good)
    assert len(bench_history.kept(tmp_path)) == 1


def compared(tmp_path, *bodies: dict) -> list[bench_history.Change]:
    for body in bodies:
        keep(tmp_path, body)
    return bench_history.changes(bench_history.kept(tmp_path))


def test_a_change_beyond_noise_is_told_and_noise_is_not(tmp_path):
    steady, slower = compared(tmp_path, measured(10.0), measured(10.2), measured(11.0))
    assert not steady.real
    assert slower.real
    assert "+7.8%" in str(slower)
    assert "beyond noise (±3.0%)" in str(slower)


def test_a_restless_run_hides_a_change(tmp_path):
    (change,) = compared(
        tmp_path, measured(10.0, jitter=0.1, seed=1), measured(11.0, jitter=0.1, seed=2)
    )
    assert change.noise > 0.1
    assert not change.real


def test_runs_that_differ_among_themselves_hide_a_change(tmp_path):
    *_, change = compared(tmp_path, measured(10.0), measured(11.5), measured(9.8), measured(10.9))
    assert not change.real


def test_only_like_is_compared_with_like(tmp_path):
    other = measured(20.0)
    other["runtime"] = {**other["runtime"], "threads": 1}
    assert compared(tmp_path, measured(10.0), other) == []
    (change,) = compared(tmp_path, measured(10.0, model_sha256="1" * 64))
    assert "another model" in str(change)


def test_a_tool_without_samples_needs_a_big_change(tmp_path):
    def without(p50: float) -> dict:
        body = measured(p50)
        body["latency_ms"] = {**body["latency_ms"], "samples": []}
        return body

    small, big = compared(tmp_path, without(10.0), without(11.0), without(16.0))
    assert not small.real
    assert big.real


# The command -------------------------------------------------------------------------------------


def command(capsys, *words: str) -> tuple[int, str, str]:
    code = cli.main(["bench", *words])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def folder(tmp_path):
    """An out folder of a build, under a name that needs quoting in a shell."""
    made, place = tiny(), tmp_path / "a 'build'; \"x\" $(y)"
    place.mkdir()
    (place / "model.tflite").write_bytes(made.model)
    (place / "golden.npz").write_bytes(made.golden())
    return place


def test_bench_keeps_what_it_measures_for_each_profile(folder, capsys):
    code, out, err = command(
        capsys, str(folder), "--profile", "host,pi4", "--runs", "5", "--threads", "1", "--json"
    )
    assert code == 0, err
    assert [body["profile"] for body in json.loads(out)] == ["host", "pi4"]
    assert sorted(path.name.rpartition("-")[0] for path in (folder / "bench").iterdir()) == [
        "host-local",
        "pi4-local",
    ]
    code, out, err = command(capsys, str(folder), "--runs", "5", "--threads", "1")
    assert code == 0, err
    assert "noise (±" in out


def test_a_profile_that_fails_does_not_end_the_others(folder, capsys):
    code, out, err = command(
        capsys,
        str(folder),
        "--profile",
        "host,pi4",
        "--delegate",
        "edgetpu",
        "--threads",
        "1",
        "--json",
    )
    assert code == 2
    assert json.loads(out) == []
    assert err.count("edgekd: error:") == 2
    assert "libedgetpu" in err


def test_emitted_by_profile_and_brought_back(folder, tmp_path, capsys):
    emitted = tmp_path / "for the boards"
    code, _, _ = command(
        capsys,
        str(folder),
        "--profile",
        "pi4,pi5",
        "--emit",
        str(emitted),
        "--runs",
        "5",
        "--threads",
        "1",
    )
    assert code == 0
    assert sorted(path.name for path in emitted.iterdir()) == ["pi4", "pi5"]
    line = (emitted / "pi5" / "COMMAND.txt").read_text().splitlines()[-2]
    subprocess.run(
        ["sh", "-c", line.replace("python3", sys.executable, 1)],
        cwd=emitted / "pi5",
        check=True,
        capture_output=True,
        timeout=60,
    )
    result = emitted / "pi5" / "result.json"
    code, out, err = command(
        capsys, str(folder), "--profile", "pi5", "--brought", str(result), "--json"
    )
    assert code == 0, err
    assert json.loads(out)["transport"] == "emit"
    code, _, err = command(
        capsys, str(folder), "--profile", "pi5", "--brought", str(tmp_path / "none.json")
    )
    assert code == 2
    assert "COMMAND.txt" in err


def test_over_ssh_from_the_command_line(folder, tmp_path, capsys):
    server_folder = tmp_path / "sshd"
    server_folder.mkdir()
    server = sshd.start(server_folder)
    try:
        code, out, err = command(
            capsys,
            str(folder),
            "--ssh",
            server.destination,
            "--ssh-config",
            str(server.config),
            "--python",
            sys.executable,
            "--runs",
            "5",
            "--threads",
            "1",
            "--json",
        )
        assert code == 0, err
        assert json.loads(out)["transport"] == "ssh"
        server.client("stranger")
        code, out, err = command(
            capsys, str(folder), "--ssh", server.destination, "--ssh-config", str(server.config)
        )
        assert (code, out) == (2, "")
        assert "ssh-copy-id" in err
        assert "Traceback" not in err
    finally:
        server.stop()


@pytest.mark.parametrize(
    "words",
    [
        ["--ssh", "-oProxyCommand=touch x"],
        ["--ssh", "a b; 'c'"],
        ["--cores", "x"],
        ["--soak", "0"],
        ["--delegate", "gpu"],
        ["--profile", "no; 'such'"],
        ["--profile", "host,"],
        ["--timeout", "nan"],
    ],
)
def test_bad_words_are_an_error_and_no_traceback(folder, capsys, words):
    code, out, err = command(capsys, str(folder), *words)
    assert (code, out) == (2, "")
    assert err.startswith("edgekd: error:")
    assert "next:" in err
    assert not (folder / "bench").exists()
