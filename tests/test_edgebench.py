"""The device runner: what it measures, what it refuses, and that no process outlives it."""

from __future__ import annotations

import ast
import ctypes.util
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_tflite import busy, tiny

from edgekd.device import edgebench
from edgekd.device.edgebench import BadModelError, BenchError, check_model, supervise

RUNNER = Path(edgebench.__file__)
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "tflite"
QUICK = ("--threads", "1", "--runs", "5", "--min-seconds", "0", "--warmup-runs", "10")


def start(*words: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", str(RUNNER), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )  # type: ignore[call-overload]


def run(folder: Path, model: bytes, *words: str, golden: bytes | None = None, **options: object):
    """(exit code, the JSON that was written, stderr) of one whole run of the runner."""
    (folder / "m.tflite").write_bytes(model)
    if golden is not None:
        (folder / "g.npz").write_bytes(golden)
        words = (*words, "--golden", str(folder / "g.npz"))
    process = start(
        "--model",
        str(folder / "m.tflite"),
        "--json",
        str(folder / "out.json"),
        *QUICK,
        *words,
        **options,
    )
    _, stderr = process.communicate(timeout=60)
    out = folder / "out.json"
    return (
        process.returncode,
        json.loads(out.read_text()) if out.exists() else None,
        stderr.decode(),
    )


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_runs_a_model_and_agrees_with_answers_computed_without_a_runtime(tmp_path):
    made = tiny()
    others = {
        "logits": made.logits / 20.0,
        "mean": np.array([0.485, 0.456, 0.406]),
        "std": np.array([0.2, 0.2, 0.2]),
    }
    code, found, stderr = run(tmp_path, made.model, golden=made.golden(**others))
    assert code == 0, stderr
    assert (
        found["golden"].pop("max_abs_lsb") <= 1
    )  # tflite-runtime 2.14's kernel rounds 1 LSB off, XNNPACK 0
    assert found["golden"] == {"images": 12, "argmax_agreement": 1.0, "top1": round(11 / 12, 6)}
    latency = found["latency_ms"]
    assert len(latency["samples"]) == 5
    assert latency["min"] <= latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    memory = found["memory_kib"]
    assert 0 < memory["baseline"] <= memory["after_load"] <= memory["peak"]
    assert found["runtime"]["delegate"] == "xnnpack"
    assert found["runtime"]["threads"] == 1
    assert set(found) == {
        "schema",
        "model_sha256",
        "runner_version",
        "runtime",
        "host",
        "settings",
        "latency_ms",
        "memory_kib",
        "golden",
        "output_sha256",
        "soak",
        "warnings",
    }
    assert "edgebench: progress 1.00" in stderr


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_uint8_and_float_models_are_fed_the_same_pixels(tmp_path, kind):
    made = tiny(kind)
    code, found, stderr = run(tmp_path, made.model, golden=made.golden())
    assert code == 0, stderr
    assert found["golden"]["argmax_agreement"] == 1.0
    assert found["golden"]["max_abs_lsb"] in ((0, 1) if kind == "uint8" else (None,))


def test_runs_by_count_and_by_seconds_in_a_folder_of_any_name(tmp_path):
    made, folder = tiny(), tmp_path / "a 'b' \"c\"; $(d) é"
    folder.mkdir()
    _, found, _ = run(folder, made.model, "--min-seconds", "0.3", "--runs", "7")
    assert len(found["latency_ms"]["samples"]) > 7
    assert found["settings"]["runs"] == 7
    assert found["golden"] is None


def test_wrong_golden_answers_are_counted(tmp_path):
    made = tiny()
    off = made.logits.copy()
    off[:, 0] = np.where(off[:, 0] < 0, off[:, 0] + 100, off[:, 0] - 100)
    _, found, _ = run(tmp_path, made.model, golden=made.golden(logits_int8=off))
    assert 99 <= found["golden"]["max_abs_lsb"] <= 101


@pytest.mark.parametrize(
    ("instead", "words"),
    [
        ({"inputs": np.zeros((3, 4, 4, 3), np.float32)}, "inputs is float32"),
        ({"labels": None}, "no array 'labels'"),
        ({"labels": np.zeros(3, np.int64)}, "not of one length"),
        ({"inputs": np.zeros((12, 8, 8, 3), np.uint8)}, "images of [8, 8, 3]"),
        ({"inputs": np.array([[[["pickle", None]]]], object)}, "without pickles"),
    ],
)
def test_golden_sets_that_do_not_fit_are_refused(tmp_path, instead, words):
    made = tiny()
    code, found, _ = run(tmp_path, made.model, golden=made.golden(**instead))
    assert (code, found["kind"]) == (2, "golden")
    assert words in found["message"]


def test_a_golden_set_that_is_no_zip_is_refused(tmp_path):
    code, found, _ = run(tmp_path, tiny().model, golden=b"not a zip")
    assert (code, found["kind"]) == (2, "golden")


def test_every_cut_of_a_model_is_refused_before_a_runtime_sees_it():
    model = tiny().model
    check_model(model)
    for length in range(len(model)):
        with pytest.raises(BadModelError):
            check_model(model[:length])


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v1_0.25_128_quant",
        "tf2_mobilenet_v2_1.0_224_ptq",
        "mobilenet_v1_0.25_128_quant_edgetpu",
    ],
)
def test_real_models_pass_the_check_and_their_cuts_do_not(name):
    path = SHARED / f"{name}.tflite"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    model = path.read_bytes()
    check_model(model)
    for length in [*range(0, len(model), len(model) // 40), len(model) - 1]:
        with pytest.raises(BadModelError):
            check_model(model[:length])


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant", "tf2_mobilenet_v2_1.0_224_ptq"])
def test_real_models_run(tmp_path, name):
    path = SHARED / f"{name}.tflite"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    code, found, stderr = run(tmp_path, path.read_bytes())
    assert code == 0, stderr
    assert found["latency_ms"]["p50"] > 0


def test_a_model_compiled_for_the_edge_tpu_is_refused_with_the_reason(tmp_path):
    path = SHARED / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    code, found, _ = run(tmp_path, path.read_bytes())
    assert (code, found["kind"]) == (2, "model")
    assert "Edge TPU" in found["next_step"]


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x1c\0\0\0TFL3" + b"\xff" * 64, b"\0" * 4096])
def test_garbage_is_refused(tmp_path, data):
    code, found, stderr = run(tmp_path, data)
    assert (code, found["kind"], found["schema"]) == (2, "model", "edgekd.bench-error/1")
    assert str(tmp_path / "m.tflite") in found["message"]
    assert "edgebench: error:" in stderr
    assert "Traceback" not in stderr


def test_damaged_models_never_take_the_runner_down(tmp_path):
    """With single bytes changed, each run ends with a result or with an error in the JSON."""
    model, random = tiny().model, np.random.default_rng(3)
    refused = 0
    for place in random.integers(8, len(model), 300):
        damaged = bytearray(model)
        damaged[place] ^= 0xFF
        try:
            check_model(bytes(damaged))
        except BadModelError:
            refused += 1
    assert refused > 50
    for place in random.integers(8, 400, 3):
        damaged = bytearray(model)
        damaged[place] ^= 0x80
        code, found, stderr = run(tmp_path, bytes(damaged))
        assert code in (0, 2, 3), stderr
        assert "Traceback" not in stderr
        assert found["schema"] in ("edgekd.bench/1", "edgekd.bench-error/1")


def test_a_model_that_is_not_there(tmp_path):
    process = start("--model", str(tmp_path / "no.tflite"), "--json", str(tmp_path / "out.json"))
    process.communicate(timeout=60)
    assert process.returncode == 2
    assert json.loads((tmp_path / "out.json").read_text())["kind"] == "model"


def test_wrong_arguments_and_help():
    help_text = subprocess.run(
        [sys.executable, "-I", "-S", str(RUNNER), "--help"], capture_output=True, check=True
    )
    assert b"exit codes" in help_text.stdout  # with -S, so without any package
    wrong = start("--model", "m.tflite", "--runs", "0")
    wrong.communicate(timeout=60)
    assert wrong.returncode == 2


def test_the_process_of_the_model_is_killed_by_a_signal(tmp_path):
    """A limit of CPU time kills the busy child alone, and the parent must report it as a crash."""
    code, found, stderr = run(
        tmp_path,
        busy(),
        "--runs",
        "20000",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (1, 30)),
    )
    assert (code, found["kind"]) == (3, "crash"), stderr
    assert "SIGXCPU" in found["message"]


SCRIPTS = {
    "segfault": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crash", "SIGSEGV"),
    "abort": (
        "import os, sys; print('lse enabled', file=sys.stderr, flush=True); os.abort()",
        "crash",
        "lse enabled",
    ),
    "killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "crash", "out of memory"),
    "silent": ("pass", "crash", "exit code 0 and no result"),
    "half a line": ("print('{\"result\": {', end='')", "crash", "no result"),
    "no object": ("print('[1]'); print('3')", "crash", "no result"),
    "hangs": ("import time; time.sleep(60)", "timeout", "1 s"),
    "refuses": (
        'print(\'{"error": {"kind": "model", "message": "m", "next_step": "n"}}\')',
        "model",
        "m",
    ),
    "dies after its result": (
        "import os; print('{\"result\": {}}', flush=True); os.abort()",
        "crash",
        "SIGABRT",
    ),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_whatever_becomes_of_the_child_is_told(script):
    body, kind, words = SCRIPTS[script]
    with pytest.raises(BenchError) as caught:
        supervise([sys.executable, "-c", body], 1.0, lambda share: None)
    assert caught.value.kind == kind
    assert words in caught.value.message


def test_a_child_that_floods_its_stderr_does_not_block_it():
    body = (
        "import sys; sys.stderr.write(('x' * 70 + '\\n') * 5000); "
        "print('{\"progress\": 0.5}'); print('{\"result\": {}}')"
    )
    shares: list[float] = []
    assert supervise([sys.executable, "-c", body], 20.0, shares.append) == {}
    assert shares == [0.5]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_no_process_outlives_the_runner(tmp_path, number):
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    (tmp_path / "m.tflite").write_bytes(busy())
    process = start(
        "--model",
        str(tmp_path / "m.tflite"),
        "--min-seconds",
        "100",
        "--runs",
        "20000",
        "--timeout",
        "90",
    )
    assert wait_for(lambda: children(process.pid))
    child = children(process.pid)[0]
    assert wait_for(lambda: b"edgebench" in Path(f"/proc/{child}/cmdline").read_bytes())
    # It asks to die with its parent before it loads the runtime.
    assert wait_for(lambda: "litert" in Path(f"/proc/{child}/maps").read_text())
    process.send_signal(number)
    process.communicate(timeout=60)
    assert wait_for(lambda: not alive(child))


def test_the_board_says_that_it_was_throttled(tmp_path):
    tool = tmp_path / "vcgencmd"
    tool.write_text("#!/bin/sh\necho throttled=0x50005\n")
    tool.chmod(0o755)
    _, found, _ = run(
        tmp_path, tiny().model, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    )
    assert found["host"]["throttled"] == {"before": "0x50005", "after": "0x50005"}
    assert any("throttled" in warning for warning in found["warnings"])


def test_more_threads_than_cores_and_other_facts_are_warned_of():
    host = {
        "governor": "ondemand",
        "cores": 2,
        "throttled": {"before": "0x50000", "after": "0x50000"},
        "clock_khz": 1_000_000,
        "before": {"clock_khz": 1_500_000},
    }
    notes = edgebench.host_warnings(host, threads=4)
    assert len(notes) == 3  # bits 16 to 19 were set before the run: no warning
    assert "ondemand" in notes[0]
    assert "4 threads on 2" in notes[1]
    assert "from 1500 to 1000 MHz" in notes[2]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("0x0", "0x0", None),
        ("0x0", "0x50000", "under-voltage and throttling"),
        ("0x50000", "0x50000", None),  # it may have happened again, and nothing says so
        ("0x50000", "0xd0000", "the soft temperature limit"),
        ("0x10000", "0x70000", "a capped clock and throttling"),
        ("0x50005", "0x50005", "under-voltage and throttling"),
        ("0x50005", "0x50000", "under-voltage and throttling"),  # it began so
        ("0x50000", "0x0", None),  # a board that was started again
        ("0x0", "0x80008", "the soft temperature limit"),
        ("0x0", "0x100000", None),  # a bit that has no meaning
    ],
)
def test_the_throttling_words_before_and_after(before, after, words):
    host = {
        "governor": None,
        "cores": 4,
        "throttled": {"before": before, "after": after},
        "clock_khz": None,
        "before": {"clock_khz": None},
    }
    notes = edgebench.host_warnings(host, threads=1)
    if words is None:
        assert notes == []
    else:
        (note,) = notes
        assert words + " (get_throttled" in note
        assert f"{before} before, {after} after" in note


def test_a_soak_that_throttled_between_two_windows():
    """Each window is looked at when it ends, when the board may have cooled again."""
    windows = [soaked_row(flags) for flags in ("0x20000", "0x20000", "0x60000", "0x60000")]
    found = edgebench.soak_verdict(windows)
    assert (found["verdict"], found["reason"]) == (
        "throttles",
        "get_throttled tells of throttling between two windows",
    )
    assert edgebench.soak_verdict(windows[:2])["verdict"] == "steady"


def soaked_row(flags: str) -> dict:
    return {"p50_ms": 1.0, "clock_khz": None, "temperature_c": None, "throttled": flags}


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (
            ["INFO: started", "ERROR: No GPU detected.", "", "ERROR: Failed to apply it.", "Gone"],
            "ERROR: No GPU detected.",
        ),
        (["Traceback (most recent call last):", '  File "x"', "ImportError: x"], "ImportError: x"),
        (["ERROR: the first"] + [f"ERROR: {number}" for number in range(99)], "ERROR: the first"),
        (["a", "b"], "a"),
    ],
)
def test_the_first_error_of_a_dead_child_is_told_first(lines, cause):
    said = edgebench.Said()
    said.keep(io.BytesIO("\n".join(lines).encode()))
    assert said.in_order()[0] == cause
    assert len(said.in_order()) <= edgebench.HEAD_LINES + edgebench.TAIL_LINES


def test_a_soak_leaves_a_trace_and_a_verdict(tmp_path):
    """Three windows of 0.2 s on one core. The board says throughout that it is throttled."""
    tool = tmp_path / "vcgencmd"
    tool.write_text("#!/bin/sh\necho throttled=0x2\n")
    tool.chmod(0o755)
    _, found, _ = run(
        tmp_path,
        tiny().model,
        "--soak",
        "0.01",
        "--cores",
        "0",
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    trace = found["soak"]["trace"]
    assert found["settings"]["cores"] == [0]
    assert found["host"]["cores"] == 1
    assert 1 <= len(trace) <= 4
    assert trace[-1]["at_s"] >= 0.6
    assert all(row["throttled"] == "0x2" and row["p50_ms"] > 0 and row["runs"] > 0 for row in trace)
    assert found["soak"]["verdict"] == "throttles"
    assert any("soak of 0.01 minutes: it throttles" in warning for warning in found["warnings"])


def soaked(times: list[float], clocks: list[int | None], flags: str | None = None) -> dict:
    trace = [
        {"p50_ms": time, "clock_khz": clock, "temperature_c": None, "throttled": flags}
        for time, clock in zip(times, clocks, strict=True)
    ]
    return edgebench.soak_verdict(trace)


def test_the_verdict_of_a_soak():
    assert soaked([10.0] * 20, [None] * 20)["verdict"] == "steady"
    assert soaked([10.0] * 10 + [10.4] * 10, [1500] * 20)["verdict"] == "steady"
    slower = soaked([10.0] * 10 + [15.0] * 10, [1500] * 10 + [1000] * 10)
    assert (slower["verdict"], slower["slowdown"]) == ("throttles", 0.5)
    assert "clock 33% lower" in slower["reason"]
    assert soaked([10.0] * 10 + [15.0] * 10, [1500] * 20)["verdict"] == "slows"
    assert soaked([10.0] * 10 + [15.0] * 10, [None] * 20)["verdict"] == "slows"
    assert (
        soaked([10.0] * 20, [1500] * 20, "0x50000")["verdict"] == "steady"
    )  # throttled in the past, and not now
    assert soaked([10.0] * 20, [1500] * 20, "0x1")["verdict"] == "throttles"
    assert soaked([10.0], [None])["verdict"] == "steady"


def test_the_digest_of_the_outputs_tells_models_and_seeds_apart(tmp_path):
    made = tiny()
    first = run(tmp_path, made.model)[1]["output_sha256"]
    assert run(tmp_path, made.model, "--threads", "2")[1]["output_sha256"] == first
    assert run(tmp_path, made.model, "--seed", "1")[1]["output_sha256"] != first


DELEGATE = """
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* TfLiteDelegate, tflite/core/c/common.h; one that takes no op, and refuses the option "refuse". */
typedef struct {
  void* data;
  int (*prepare)(void*, void*);
  void* from;
  void* to;
  void* release;
  int64_t flags;
  void* opaque;
} Delegate;
static int prepare(void* context, void* delegate) { return 0; }
Delegate* tflite_plugin_create_delegate(
    char** keys, char** values, size_t count, void (*report)(const char*)) {
  static Delegate made;
  memset(&made, 0, sizeof made);
  made.prepare = prepare;
  for (size_t i = 0; i < count; ++i) {
    if (!strcmp(keys[i], "refuse")) { report(values[i]); return 0; }
  }
  return &made;
}
void tflite_plugin_destroy_delegate(Delegate* delegate) {}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """The path of an external delegate, compiled on this machine."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to build a delegate with")
    folder = tmp_path_factory.mktemp("delegate")
    (folder / "delegate.c").write_text(DELEGATE)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", folder / "libdelegate.so", folder / "delegate.c"],
        check=True,
    )
    return folder / "libdelegate.so"


def test_an_external_delegate_is_loaded_with_its_options(tmp_path, library):
    code, found, stderr = run(
        tmp_path, tiny().model, "--delegate", f"external:{library},speed=fast"
    )
    assert code == 0, stderr
    assert found["runtime"]["delegate"] == f"external:{library}"
    code, found, stderr = run(
        tmp_path, tiny().model, "--delegate", f"external:{library},refuse=no such accelerator"
    )
    assert (code, found["kind"]) == (3, "delegate"), stderr
    assert "no such accelerator" in found["message"]


def test_delegates_that_are_not_there(tmp_path):
    if ctypes.util.find_library("edgetpu"):
        pytest.skip("this machine has libedgetpu")
    code, found, _ = run(tmp_path, tiny().model, "--delegate", "edgetpu:usb:0")
    assert (code, found["kind"]) == (3, "delegate")
    assert "libedgetpu1-std" in found["next_step"]
    code, found, _ = run(tmp_path, tiny().model, "--delegate", f"external:{tmp_path / 'm.tflite'}")
    assert (code, found["kind"]) == (3, "delegate")


def test_the_builtin_kernels_alone(tmp_path):
    made = tiny()
    code, found, stderr = run(tmp_path, made.model, "--delegate", "none", golden=made.golden())
    assert code == 0, stderr
    assert found["runtime"]["delegate"] == "none"
    assert found["golden"]["argmax_agreement"] == 1.0


@pytest.mark.parametrize(
    "name", ["", "gpu", "edgetpu:", "external:", "external:x,y", "external:x,=y", "xnnpack:1"]
)
def test_names_of_delegates_that_are_none(name):
    with pytest.raises(ValueError, match="is not"):
        edgebench.Delegate(name)


def test_names_of_delegates():
    usb = edgebench.Delegate("edgetpu:usb:0")
    assert (usb.library, usb.options) == ("libedgetpu.so.1", {"device": "usb:0"})
    assert edgebench.Delegate("edgetpu").options == {}
    other = edgebench.Delegate("external:/a b/lib;x.so,a=1,b=c=d")
    assert (other.library, other.options) == ("/a b/lib;x.so", {"a": "1", "b": "c=d"})


def test_lists_of_cores(tmp_path):
    assert edgebench.core_list("0-3,2,5") == [0, 1, 2, 3, 5]
    for wrong in ("", "a", "3-1", "0-99999999", "-1", "1,,2"):
        with pytest.raises(ValueError):  # noqa: PT011 - argparse reports it, whatever it says
            edgebench.core_list(wrong)
    code, found, _ = run(tmp_path, tiny().model, "--cores", "1023")
    assert (code, found["kind"]) == (3, "device")
    assert "cannot be kept on cores" in found["message"]


@pytest.mark.parametrize(
    ("machine", "version", "words"),
    [
        ("x86_64", (3, 12), "-m pip install ai-edge-litert numpy"),
        ("aarch64", (3, 9), "-m pip install ai-edge-litert numpy"),
        ("armv7l", (3, 11), "'tflite-runtime==2.14.0' 'numpy<2'"),
        ("armv7l", (3, 13), "64-bit Raspberry Pi OS"),
        ("armv6l", (3, 11), "64-bit Raspberry Pi OS"),
        ("riscv64", (3, 13), "no TFLite runtime has a wheel"),
    ],
)
def test_the_line_to_type_for_a_runtime(monkeypatch, machine, version, words):
    monkeypatch.setattr(edgebench.platform, "machine", lambda: machine)
    monkeypatch.setattr(edgebench.sys, "version_info", version)
    assert words in edgebench.runtime_advice()


def test_a_system_python_closed_to_pip_gets_a_virtual_environment(monkeypatch, tmp_path):
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    monkeypatch.setattr(edgebench.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(edgebench.sys, "prefix", sys.base_prefix)
    assert (
        "-m venv ~/edgekd && ~/edgekd/bin/python -m pip install ai-edge-litert numpy"
        in edgebench.runtime_advice()
    )
    assert "--python '~/edgekd/bin/python'" in edgebench.runtime_advice()


def test_warm_up_ends_when_the_times_have_settled():
    falling = iter([9.0, 8.0, 7.0, 6.0, 5.0, *[1.0] * 100])
    assert edgebench.warm_up(lambda: next(falling), 100) == (13, [])  # both windows' medians are 1
    restless = iter([float(2 ** (n % 40)) for n in range(100)])
    runs, warnings = edgebench.warm_up(lambda: next(restless), 13)
    assert runs == 13
    assert "still changed" in warnings[0]
    assert edgebench.warm_up(lambda: 1.0, 3)[0] == 3


def test_quantiles_are_numpys():
    samples = sorted(np.random.default_rng(0).random(37).tolist())
    for share in (0.0, 0.5, 0.9, 0.95, 0.99, 1.0):
        assert edgebench.quantile(samples, share) == pytest.approx(np.quantile(samples, share))


def test_the_runner_is_one_file_in_the_syntax_of_python_3_9():
    tree = ast.parse(RUNNER.read_text(), feature_version=(3, 9))
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    outside = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert outside == {"numpy"}
