"""edgetpu_compiler: every figure of its real logs is read, and its flags are passed on.

No package registry has the compiler. These tests run a script in its place, which prints the text
of real logs and writes the same files.
"""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest
from bench_answers import processes_with

from edgekd.assessment import student_check
from edgekd.assessment.check_record import CompiledBlock, CompilerReport, CompilerRow
from edgekd.assessment.compiler_answer import CompiledForDevice
from edgekd.assessment.edgetpu import compiled_file, edgetpu_compiler, status
from edgekd.assessment.edgetpu.compiler_log import Log, parse
from edgekd.assessment.edgetpu.edgetpu_compiler import Flags, compile_model, find
from edgekd.core.errors import DeviceError
from edgekd.core.records import UNSET, to_json
from edgekd.settings.device_profiles import load_profile
from tests.lite_graphs import Net, T, separable

LOGS = Path(__file__).parent / "data" / "device_logs"
V16 = f"""Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 542 ms.

Input model: quantized_model.tflite
Input size: 4.04MiB
Output model: quantized_model_edgetpu.tflite
Output size: 4.13MiB
On-chip memory used for caching model parameters: 604.50KiB
On-chip memory remaining for caching model parameters: 511.50KiB
Off-chip memory used for streaming uncached model parameters: 3.45MiB
Number of Edge TPU subgraphs: 1
Total number of operations: 50
Operation log: quantized_model_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU.
Number of operations that will run on Edge TPU: 48
Number of operations that will run on CPU: 2

Operator                       Count      Status

RESHAPE                        15         Mapped to Edge TPU
CONV_2D                        33         Mapped to Edge TPU
RESHAPE                        1          {status.LIMITATION}
LEAKY_RELU                     1          Operation not supported
Compilation child process completed within timeout period.
Compilation succeeded!
"""


V2 = """Edge TPU Compiler version 2.0.267685300
Models compiled successfully in 7 ms.
On-chip memory available for caching model parameters: 7.67MiB
"""
DYNAMIC = f"""Edge TPU Compiler version 16.0.384591198
ERROR: {status.DYNAMIC}
Compilation failed: Model failed in Tflite interpreter.
"""


def test_every_figure_of_a_real_log():
    log = parse(V16)
    assert (log.version, log.succeeded, log.milliseconds) == ("16.0.384591198", True, 542)
    assert log.sizes == {
        "input_bytes": round(4.04 * 2**20),
        "output_bytes": round(4.13 * 2**20),
        "cached_bytes": 619_008,
        "cache_left_bytes": 523_776,
        "streamed_bytes": round(3.45 * 2**20),
    }
    assert log.counts == {"subgraphs": 1, "operations": 50, "mapped": 48, "on_cpu": 2}
    assert log.rows[2] == CompilerRow("RESHAPE", 1, status.LIMITATION)
    assert (log.mapped, log.operations) == (48, 50)
    report = log.report(CompiledBlock(1, 5, [], []))
    assert json.loads(json.dumps(to_json(report)))["streamed_bytes"] == round(3.45 * 2**20)


def test_the_log_after_stdout_counts_once():
    table = V16[V16.index("Operator  ") :].replace(
        "Compilation child process completed within timeout period.\nCompilation succeeded!\n", ""
    )
    assert (
        parse(
            f"{V16}\nEdge TPU Compiler version 16.0.384591198\nInput: a\nOutput: b\n\n{table}"
        ).operations
        == 50
    )


@pytest.mark.parametrize(
    ("text", "check"),
    [
        (
            V2,
            lambda log: log.succeeded and log.sizes["cache_left_bytes"] == round(7.67 * 2**20),
        ),
        (
            "Edge TPU Compiler version 15.0.340273435\n\nInternal compiler error. Aborting! \n",
            lambda log: not log.succeeded and log.errors,
        ),
        (
            DYNAMIC,
            lambda log: not log.succeeded and len(log.errors) == 2,
        ),
        (
            "Edge TPU Compiler version 16.0.384591198\n",
            lambda log: not log.succeeded and not log.errors,
        ),
        ("", lambda log: not log.succeeded and log.version == ""),
        (
            "Off-chip memory used for streaming uncached model parameters: 0.00B\n",
            lambda log: log.sizes["streamed_bytes"] == 0,
        ),
    ],
)
def test_old_failed_and_silent_runs(text: str, check: object):
    log = parse(text)
    assert isinstance(log, Log)
    assert check(log)  # type: ignore[operator]


def test_flags():
    assert Flags(
        runtime=13,
        segments=2,
        stop_at=["a", "b"],
        many_subgraphs=True,
        search=True,
        timeout_s=9,
    ).arguments("c") == [
        "c",
        "-s",
        "-o",
        ".",
        "-t",
        "9",
        "-m",
        "13",
        "-n",
        "2",
        "-i",
        "a,b",
        "-a",
        "-d",
        "model.tflite",
    ]


def script(folder: Path, body: str) -> str:
    """An executable named edgetpu_compiler."""
    path = folder / "edgetpu_compiler"
    path.write_text(f"#!{sys.executable}\nimport sys, time, pathlib\n{body}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_it_is_found_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find() is None
    program = script(tmp_path, "print('Edge TPU Compiler version 16.0.384591198')")
    assert find() == program


def test_both_output_files_come_back(tmp_path: Path):
    program = script(
        tmp_path,
        f"print({V16!r})\n"
        "source = pathlib.Path(sys.argv[-1]).read_bytes()\n"
        "pathlib.Path('model_edgetpu.tflite').write_bytes(b'compiled ' + source)\n"
        f"pathlib.Path('model_edgetpu.log').write_text({V16[V16.index('Operator  ') :]!r})\n",
    )
    before = set(tmp_path.iterdir())
    done = compile_model(b"source", program)
    assert done.model == b"compiled source"
    assert done.log.operations == 50
    assert set(tmp_path.iterdir()) == before  # nothing is left behind


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("print('Edge TPU Compiler version 16.0.384591198')", "did not compile"),
        (
            "print('Edge TPU Compiler version 16.0\\n\\nInternal compiler error. Aborting!')",
            "Internal compiler error",
        ),
        (f"print({V16!r})", "did not compile"),  # success claimed, no file
        ("sys.stdout.buffer.write(b'\\xff\\xfe'); sys.exit(3)", "did not compile"),
    ],
)
def test_failures_say_the_compilers_last_words(tmp_path: Path, body: str, words: str):
    with pytest.raises(DeviceError, match=words):
        compile_model(b"source", script(tmp_path, body))


def test_a_compiler_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Coral's compiler is a shell script that starts a program: both end, and what it said is told.

    The program holds the pipe, so that a script alone that ends would leave us waiting.
    """
    monkeypatch.setattr(edgetpu_compiler, "GRACE_S", 0)
    path = tmp_path / "edgetpu_compiler"
    mark = f"{tmp_path}/never"
    path.write_text(f"#!/bin/sh\necho Model not quantized\ntail -F {mark} 2>/dev/null\n:\n")
    path.chmod(0o755)
    with pytest.raises(DeviceError, match="was stopped; it printed: Model not quantized"):
        compile_model(b"source", str(path), Flags(timeout_s=1))
    assert not processes_with(mark)


def test_a_search_that_succeeds_at_last(tmp_path: Path):
    said = (LOGS / "compiler_search.txt").read_text()
    program = script(
        tmp_path,
        f"print({said!r})\npathlib.Path('model_edgetpu.tflite').write_bytes(b'compiled')\n",
    )
    done = compile_model(b"source", program, Flags(search=True))
    assert (done.model, done.log.attempts, done.log.mapped) == (b"compiled", 3, 247)
    assert Flags(search=True).limit_s > 10 * Flags().limit_s


def test_a_search_that_fails_tells_its_first_error_once(tmp_path: Path):
    said = (LOGS / "compiler_search_failed.txt").read_text()
    with pytest.raises(DeviceError) as caught:
        compile_model(b"source", script(tmp_path, f"print({said!r})"), Flags(search=True))
    assert "in 2 attempts; it printed: Compilation timeout." in caught.value.what


def compiled_net() -> Net:
    """What a compiler leaves behind of a network whose ARG_MAX it cannot map."""
    net = Net((1, 8, 8, 3))
    net.op("CUSTOM", T((1, 10)), custom="edgetpu-custom-op")
    net.op("ARG_MAX", T((1,), "INT32"), T((1,), "INT32", [1]), version=2)
    return net


def test_the_cpu_tail_is_read_back():
    graph = compiled_net().read()
    found = compiled_file.read_back(graph)
    assert compiled_file.is_compiled(graph)
    assert found == CompiledBlock(1, 0, ["ARG_MAX"], ["ARG_MAX"])
    other = Net((1, 8, 8, 3))
    other.op("CUSTOM", T((1, 10)), custom="TFLite_Detection_PostProcess")
    assert not compiled_file.is_compiled(other.read())


def test_a_build_brings_both_files_and_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from edgekd.app import publish

    (tmp_path / "twin").write_bytes(compiled_net().bytes())
    twin = f"pathlib.Path({str(tmp_path / 'twin')!r}).read_bytes()"
    copied = f"pathlib.Path('model_edgetpu.tflite').write_bytes({twin})"
    script(tmp_path, f"print({V16!r})\n{copied}\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    made = publish.compiled_by_device(b"source", load_profile("coral-usb"))
    assert isinstance(made, CompiledForDevice)
    files, printed = made.files, made.report
    assert files["model_edgetpu.tflite"] == (tmp_path / "twin").read_bytes()
    assert b"16.0.384591198" in files["model_edgetpu.log"]
    assert printed.cpu_tail == ["ARG_MAX"]
    assert printed.rows[0].op == "RESHAPE"
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert publish.compiled_by_device(b"source", load_profile("coral-usb")) is None


def test_a_profile_says_what_the_compiler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A profile's `compiler` table sets -m, -a and -t.

    With -a, the prediction assumes several parts, too.
    """
    profile = tmp_path / "older.toml"
    profile.write_text(
        'extends = "coral-usb"\nname = "older"\ntitle = "older"\nmeasured_on_hardware = false\n'
        "compiler = { value = { runtime = 13, many_subgraphs = true, timeout_s = 30 }, "
        'source = "my board" }\n'
    )
    script(
        tmp_path,
        f"print({V16!r})\n"
        f"pathlib.Path({str(tmp_path / 'told')!r}).write_text(' '.join(sys.argv[1:]))\n"
        "source = pathlib.Path(sys.argv[-1]).read_bytes()\n"
        "pathlib.Path('model_edgetpu.tflite').write_bytes(source)\n",
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    model = tmp_path / "model.tflite"
    model.write_bytes(separable(hard_swish=True).bytes())
    usual = student_check.check_file(model, load_profile("coral-usb"))
    assert (tmp_path / "told").read_text() == "-s -o . -t 180 model.tflite"
    body = student_check.check_file(model, load_profile(str(profile)))
    assert (tmp_path / "told").read_text() == "-s -o . -t 30 -m 13 -a model.tflite"
    assert isinstance(body.compiler, CompilerReport)
    assert body.compiler.version == "16.0.384591198"
    assert body.rules is not UNSET
    assert usual.rules is not UNSET
    assert body.rules.mapped > usual.rules.mapped
    assert {row.op for row in body.rules.fallback} == {"HARD_SWISH"}
