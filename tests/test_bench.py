"""Bench and its transports: real runs on this machine, hostile answers, and emitted folders."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import pytest
from bench_answers import QUICK, answer, bench_of, processes_with
from tiny_tflite import busy, tiny

from edgekd.core.errors import (
    DataError,
    DeviceError,
    EdgeKDError,
    ModelFileError,
    RecipeError,
    StoreError,
)
from edgekd.core.records import to_json
from edgekd.device import bench, edgebench, transports
from edgekd.device.bench import carried_back, emit
from edgekd.device.bench_settings import BenchSettings
from edgekd.device.model_file import find_model, read_model
from edgekd.device.result_reader import Origin, read_result
from edgekd.device.transports import PYTHON, FakeTransport, Job, LocalTransport, Ran
from edgekd.settings.device_profiles import load_profile

HOST = load_profile("host")


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The parent of all temporary folders. It must be empty when a test ends."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def giving(data: bytes) -> FakeTransport:
    return FakeTransport(lambda job: {"result.json": data})


def test_a_model_is_measured_here(temp):
    made, shares = tiny(), []
    found = to_json(
        bench.bench(
            made.model,
            HOST,
            LocalTransport(),
            golden=made.golden(),
            settings=QUICK,
            on_progress=shares.append,
        )
    )
    assert found["golden"]["argmax_agreement"] == 1.0
    assert found["golden"]["max_abs_lsb"] <= 1
    assert (found["profile"], found["transport"], found["emulated"]) == ("host", "local", False)
    assert list(found) == [
        "schema",
        "model_sha256",
        "runner_version",
        "profile",
        "transport",
        "runtime",
        "host",
        "settings",
        "latency_ms",
        "memory_kib",
        "golden",
        "output_sha256",
        "soak",
        "emulated",
        "warnings",
    ]
    assert shares[-1] == 1.0
    assert not list(temp.iterdir())


def test_a_run_for_a_board_on_another_machine_says_so():
    result, pi4 = answer(b"m"), load_profile("pi4")
    result["host"].update(machine="x86_64", cpu="AMD EPYC")
    elsewhere = bench.completed(bench_of(result, "pi4", "local"), pi4)
    assert "not a Raspberry Pi 4" in elsewhere.warnings[0]
    assert bench.completed(bench_of(answer(b"m"), "pi4", "ssh"), pi4).warnings == []
    emulated = bench.completed(bench_of(result, "pi4", "emulated", emulated=True), pi4)
    assert emulated.emulated is True
    assert emulated.warnings == ["emulated: these times say nothing about the device"]


def test_what_is_sent_and_what_comes_back():
    made, jobs = tiny(), []

    def device(job: Job) -> dict[str, bytes]:
        jobs.append(job)
        return {"result.json": json.dumps(answer(made.model)).encode()}

    settings = BenchSettings(mean=(-0.5, 0.2, 0.3), std=(0.5,))
    found = bench.bench(
        made.model,
        load_profile("pi4"),
        FakeTransport(device, name="board"),
        golden=b"g",
        settings=settings,
    )
    (job,) = jobs
    assert job.files.keys() == {"edgebench.py", "model.tflite", "golden.npz"}
    assert job.argv[:2] == [PYTHON, "edgebench.py"]
    options = edgebench.parser().parse_args(job.argv[2:])
    assert (options.threads, options.golden, options.mean, options.std) == (
        4,
        "golden.npz",
        [-0.5, 0.2, 0.3],
        [0.5],
    )
    assert found.transport == "board"
    assert found.warnings == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"runs": 0},
        {"runs": 20_001},
        {"threads": 0},
        {"min_seconds": -1.0},
        {"timeout_s": float("nan")},
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_sent(wrong):
    with pytest.raises(RecipeError, match="the runner takes"):
        BenchSettings(**wrong)


def changed(path: str, value: object) -> bytes:
    body = answer(tiny().model)
    place = body
    *parents, last = path.split(".")
    for key in parents:
        place = place[key]
    place[last] = value
    return json.dumps(body).encode()


SOAKED = {
    "minutes": 1.0,
    "verdict": "steady",
    "slowdown": 0.0,
    "reason": "the end is as fast as the start",
    "trace": [
        {
            "at_s": 1.0,
            "p50_ms": 2.0,
            "runs": 3,
            "clock_khz": None,
            "temperature_c": None,
            "throttled": None,
        }
    ],
}

HOSTILE = {
    "empty": lambda: b"",
    "not JSON": lambda: b"{",
    "not UTF-8": lambda: b'{"schema": "\xff"}',
    "a list": lambda: b"[]",
    "deep": lambda: b"[" * 200_000,
    "a long number": lambda: b'{"schema": ' + b"9" * 10_000 + b"}",
    "too big": lambda: b" " * (transports.MAX_FILE_BYTES + 1),
    "another schema": lambda: changed("schema", "edgekd.bench/2"),
    "another model": lambda: changed("model_sha256", "0" * 64),
    "a key too many": lambda: changed("extra", 1),
    "a nested key too many": lambda: changed("host.extra", 1),
    "a missing key": lambda: json.dumps(
        {k: v for k, v in answer(tiny().model).items() if k != "host"}
    ).encode(),
    "a bool for a number": lambda: changed("latency_ms.p50", True),
    "a text for a number": lambda: changed("latency_ms.p50", "2"),
    "NaN": lambda: changed("latency_ms.p50", float("nan")),
    "infinity": lambda: changed("latency_ms.load", float("inf")),
    "1e999": lambda: (
        json.dumps(answer(tiny().model)).replace('"load": 1.0', '"load": 1e999').encode()
    ),
    "negative": lambda: changed("latency_ms.load", -1),
    "no samples": lambda: changed("latency_ms.samples", []),
    "too many samples": lambda: changed("latency_ms.samples", [1.0] * 20_001),
    "samples that contradict": lambda: changed("latency_ms.samples", [1.0, 9.0]),
    "percentiles that contradict": lambda: changed("latency_ms.p90", 1.5),
    "a share above 1": lambda: changed("golden.top1", 1.5),
    "warnings that are no texts": lambda: changed("warnings", [1]),
    "a thousand warnings": lambda: changed("warnings", ["w"] * 1000),
    "a field that the host adds": lambda: changed("transport", "ssh"),
    "a soak's field too many": lambda: changed("soak", {**SOAKED, "extra": 1}),
    "a soak without a trace": lambda: changed("soak", {**SOAKED, "trace": []}),
    "no p99": lambda: changed("latency_ms.p99", None),
    "a host that is a list": lambda: changed("host", []),
    "an error of the wrong form": lambda: b'{"schema": "edgekd.bench-error/1", "kind": 1}',
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_answers_are_refused(case):
    with pytest.raises(DeviceError) as caught:
        bench.bench(tiny().model, HOST, giving(HOSTILE[case]()), settings=QUICK)
    assert str(caught.value).replace("\n  next: ", "").isprintable()


def test_no_control_characters_get_through():
    made, nasty = tiny(), "\x1b]0;owned\x07\x1b[2J\u202edesrever\u2028line\n" + "x" * 10_000
    body = answer(made.model)
    body["host"]["cpu"] = body["warnings"] = body["runtime"]["name"] = nasty
    body["warnings"] = [nasty]
    found = bench.bench(made.model, HOST, giving(json.dumps(body).encode()))
    texts = [found.host.cpu, found.runtime.name, *found.warnings]
    assert all(text.isprintable() for text in texts)
    assert all(len(text) < 2_000 for text in texts)
    error = {
        "schema": "edgekd.bench-error/1",
        "runner_version": "1",
        "kind": nasty,
        "message": nasty,
        "next_step": nasty,
    }
    with pytest.raises(DeviceError) as caught:
        bench.bench(made.model, HOST, giving(json.dumps(error).encode()))
    assert str(caught.value).replace("\n  next: ", "").isprintable()
    with pytest.raises(DeviceError) as caught:
        bench.bench(made.model, HOST, FakeTransport(lambda job: Ran(1, {}, nasty)))
    assert str(caught.value).replace("\n  next: ", "").isprintable()


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("model", ModelFileError),
        ("golden", DataError),
        ("crash", DeviceError),
        ("timeout", DeviceError),
        ("runtime", DeviceError),
    ],
)
def test_the_runners_errors_become_edgekds(kind, family):
    error = edgebench.BenchError(kind, "what happened", "what to do").to_json()
    with pytest.raises(EdgeKDError) as caught:
        read_result(json.dumps(error).encode(), "", Origin("host", "ssh"))
    assert type(caught.value) is family
    assert str(caught.value) == "what happened\n  next: what to do"
    assert caught.value.exit_code == 2


def test_a_device_that_leaves_no_result_is_quoted():
    with pytest.raises(DeviceError, match=r"exit code 127.*sh: python3: not found"):
        bench.bench(
            tiny().model, HOST, FakeTransport(lambda job: Ran(127, {}, "sh: python3: not found"))
        )


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0\0\0\0TFL3", b"x" * 1000])
def test_what_is_no_model_never_reaches_a_device(data):
    def device(job: Job) -> dict[str, bytes]:
        raise AssertionError("was sent")

    with pytest.raises(ModelFileError):
        bench.bench(data, HOST, FakeTransport(device))


def test_a_model_cut_short_is_named(tmp_path):
    path = tmp_path / "a model; rm 'x' \"y\".tflite"
    path.write_bytes(tiny().model[:-100])
    with pytest.raises(ModelFileError) as caught:
        read_model(path)
    assert str(path) in str(caught.value)
    assert "cut short" in str(caught.value)
    assert caught.value.exit_code == 2
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_model(tmp_path)


def test_the_model_of_a_folder_comes_with_its_golden_set(tmp_path):
    (tmp_path / "model.tflite").touch()
    (tmp_path / "other.tflite").touch()
    assert find_model(tmp_path) == (tmp_path / "model.tflite", None)
    (tmp_path / "golden.npz").touch()
    assert find_model(tmp_path) == (tmp_path / "model.tflite", tmp_path / "golden.npz")
    assert find_model(tmp_path / "other.tflite") == (tmp_path / "other.tflite", None)
    (tmp_path / "formats").mkdir()
    other_format = tmp_path / "formats" / "model_float16.tflite"
    other_format.touch()
    assert find_model(other_format) == (other_format, tmp_path / "golden.npz")
    with pytest.raises(ModelFileError):
        find_model(tmp_path / "none")


def test_a_python_without_a_runtime_is_told_what_to_type(tmp_path, temp):
    venv.create(tmp_path / "bare env", with_pip=False)
    python = tmp_path / "bare env" / "bin" / "python"
    with pytest.raises(DeviceError) as caught:
        bench.bench(tiny().model, HOST, LocalTransport(str(python)), settings=QUICK)
    assert "numpy" in str(caught.value)
    assert f"{python} -m pip install" in str(caught.value).replace(
        str(python.resolve()), str(python)
    )
    assert not list(temp.iterdir())


def test_a_python_that_is_not_there(temp):
    with pytest.raises(DeviceError, match="cannot be started"):
        bench.bench(tiny().model, HOST, LocalTransport("/no/such/python"), settings=QUICK)
    assert not list(temp.iterdir())


def test_a_crash_is_a_clean_error(tmp_path, temp):
    """The transport's Python has a limit of CPU time, which kills the process of the
    model alone.
    """
    limited = tmp_path / "limited python"
    limited.write_text(f'#!/bin/sh\nulimit -S -t 1\nexec {shlex.quote(sys.executable)} "$@"\n')
    limited.chmod(0o755)
    settings = BenchSettings(threads=1, runs=20_000, timeout_s=60.0)
    with pytest.raises(DeviceError, match="SIGXCPU"):
        bench.bench(busy(), HOST, LocalTransport(str(limited)), settings=settings)
    assert not list(temp.iterdir())


def test_a_run_that_takes_too_long(temp):
    settings = BenchSettings(threads=1, timeout_s=0.1)  # importing numpy and a runtime takes longer
    with pytest.raises(DeviceError, match=r"within 0\.1 s"):
        bench.bench(tiny().model, HOST, LocalTransport(), settings=settings)
    assert not list(temp.iterdir())


STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)'
subprocess.Popen([sys.executable, '-c', code, MARK])
time.sleep(60)
"""


def test_a_stubborn_job_is_killed_with_its_children(temp, monkeypatch):
    monkeypatch.setattr(transports, "GRACE_S", 0.3)
    mark = f"edgekd-test-{os.getpid()}-stubborn"
    job = Job(
        {"job.py": STUBBORN.replace("MARK", repr(mark)).encode()}, [PYTHON, "job.py", mark], [], 1.0
    )
    with pytest.raises(DeviceError, match="did not end within 1 s"):
        LocalTransport().run(job, lambda share: None)
    assert not processes_with(mark)
    assert not list(temp.iterdir())


def test_a_job_that_ends_leaves_no_children(temp, monkeypatch):
    monkeypatch.setattr(transports, "GRACE_S", 0.3)
    mark = f"edgekd-test-{os.getpid()}-orphan"
    script = STUBBORN.replace("MARK", repr(mark)).replace(
        "time.sleep(60)\n", "open('out', 'w').write('done')\n"
    )
    ran = LocalTransport().run(
        Job({"job.py": script.encode()}, [PYTHON, "job.py"], ["out", "none"], 20.0),
        lambda share: None,
    )
    assert ran == Ran(0, {"out": b"done"}, "")
    assert not processes_with(mark)
    assert not list(temp.iterdir())


# As on a busy machine: the job runs, and Popen has not returned yet.
LATE = (
    "import subprocess, time\n"
    "class Late(subprocess.Popen):\n"
    "    def __init__(self, *given, **named):\n"
    "        super().__init__(*given, **named)\n"
    "        time.sleep(2)\n"
    "subprocess.Popen = Late\n"
)


@pytest.mark.parametrize("before", ["", LATE], ids=["running", "starting"])
def test_ctrl_c_leaves_nothing(before, temp):
    mark = f"edgekd-test-{os.getpid()}-interrupted"
    script = (
        f"{before}import signal, sys; from edgekd.device.transports import *\n"
        # a shell starts background jobs, also in CI, with SIGINT ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "files = {'job.py': b'import time; time.sleep(60)'}\n"
        "job = Job(files, [PYTHON, 'job.py', sys.argv[1]], [], 50.0)\n"
        "LocalTransport().run(job, lambda share: None)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, mark],
        stderr=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "TMPDIR": str(temp)},
    )
    end = time.monotonic() + 60
    while len(processes_with(mark)) < 2 and time.monotonic() < end:  # the script and its job
        time.sleep(0.02)
    assert len(list(temp.iterdir())) == 1
    assert next(temp.iterdir()).stat().st_mode & 0o777 == 0o700
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in stderr
    assert not processes_with(mark)
    assert not list(temp.iterdir())


def test_links_and_huge_files_are_not_brought_back(temp, monkeypatch):
    monkeypatch.setattr(transports, "MAX_FILE_BYTES", 1000)
    link = Job(
        {"job.py": b"import os; os.symlink('/etc/passwd', 'out')"},
        [PYTHON, "job.py"],
        ["out"],
        20.0,
    )
    assert LocalTransport().run(link, lambda share: None).files == {}
    huge = Job({"job.py": b"open('out', 'w').write('x' * 1001)"}, [PYTHON, "job.py"], ["out"], 20.0)
    with pytest.raises(DeviceError, match="1001 bytes"):
        LocalTransport().run(huge, lambda share: None)
    assert not list(temp.iterdir())


@pytest.mark.parametrize("name", ["a b", "a;b", "'a'", '"a"', "-rf", "ünï"])
def test_file_names_are_taken_as_they_are(temp, name):
    job = Job(
        {name: b"import sys; open(sys.argv[1], 'w').write('kept')"},
        [PYTHON, f"./{name}", f"{name}.out"],
        [f"{name}.out"],
        20.0,
    )
    assert LocalTransport().run(job, lambda share: None).files == {f"{name}.out": b"kept"}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a\0b"])
def test_file_names_that_leave_the_folder_are_refused(name):
    with pytest.raises(ValueError, match="plain file name"):
        Job({name: b""}, [PYTHON], [], 1.0)
    with pytest.raises(ValueError, match="plain file name"):
        Job({}, [PYTHON], [name], 1.0)


def test_progress_and_talk_are_told_apart(temp):
    talk = (
        b"import sys\nfor line in ('edgebench: progress 0.25', 'edgebench: progress 7', 'hello', "
        b"'edgebench: progress 1.00'): print(line, file=sys.stderr)"
    )
    shares: list[float] = []
    ran = LocalTransport().run(Job({"job.py": talk}, [PYTHON, "job.py"], [], 20.0), shares.append)
    assert shares == [0.25, 1.0]
    assert ran.stderr == "edgebench: progress 7\nhello"


def test_an_emitted_folder_is_run_by_hand_and_carried_back(tmp_path):
    made, folder = tiny(), tmp_path / "for 'the' \"board\"; $(touch x)"
    written = emit(folder, made.model, load_profile("pi4"), golden=made.golden(), settings=QUICK)
    assert sorted(path.name for path in written) == [
        "COMMAND.txt",
        "edgebench.py",
        "golden.npz",
        "model.tflite",
    ]
    text = (folder / "COMMAND.txt").read_text()
    (line,) = [line for line in text.splitlines() if not line.startswith("#")]
    words = shlex.split(line)
    assert words[:2] == ["python3", "-I"]
    subprocess.run(
        [sys.executable, *words[1:]], cwd=folder, check=True, capture_output=True, timeout=60
    )
    found = carried_back((folder / "result.json").read_bytes(), made.model, load_profile("pi4"))
    assert (found.profile, found.transport) == ("pi4", "emit")
    assert found.golden.argmax_agreement == 1.0
    with pytest.raises(DeviceError, match="another model"):
        carried_back(
            (folder / "result.json").read_bytes(), tiny("uint8").model, load_profile("pi4")
        )
    with pytest.raises(StoreError, match="not empty"):
        emit(folder, made.model, load_profile("pi4"))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        emit(tmp_path / "file", tiny().model, HOST)
    with pytest.raises(ModelFileError):
        emit(tmp_path / "new", b"garbage", HOST)
    assert not (tmp_path / "new").exists()


def test_the_real_thing_on_real_models(temp):
    path = (
        Path(__file__).resolve().parents[2]
        / "shared"
        / "data"
        / "tflite"
        / "mobilenet_v1_0.25_128_quant.tflite"
    )
    if not path.exists():
        pytest.skip(f"{path} is not there")
    found = bench.bench(read_model(path), HOST, LocalTransport(), settings=QUICK)
    assert found.latency_ms.p50 > 0
    assert found.golden is None
    assert to_json(found) == json.loads(json.dumps(to_json(found)))
