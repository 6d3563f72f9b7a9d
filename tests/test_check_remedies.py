"""Every remedy that `edgekd check` prints works when it is typed for the thing that was checked."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd.app import cli
from edgekd.assessment.graph_check import check_graph
from edgekd.core.errors import nearest
from edgekd.settings.device_profiles import load_profile, profile_names
from tests.lite_graphs import Net, T, separable

IMAGE = (1, 8, 8, 8)
HEAD = 'extends = "{base}"\nname = "board"\ntitle = "board"\nmeasured_on_hardware = false\n'


def board(folder: Path, base: str, **figures: float | str) -> str:
    """A profile of the user's own."""
    path = folder / "board.toml"
    rows = (
        f'{name} = {{ value = {value!r}, source = "test" }}\n' for name, value in figures.items()
    )
    path.write_text(HEAD.format(base=base) + "".join(rows))
    return str(path)


def floats() -> Net:
    """A network that computes in float."""
    net = Net(IMAGE, "FLOAT32")
    net.op("ADD", T(IMAGE, "FLOAT32"), T(IMAGE, "FLOAT32", "zeros"))
    return net


def compiled() -> Net:
    """A file for the Edge TPU."""
    net = Net((1, 8, 8, 3))
    net.op("CUSTOM", T((1, 10)), custom="edgetpu-custom-op")
    return net


def newer() -> Net:
    """A QUANTIZE that compiler 16.0 does not know."""
    net = Net(IMAGE)
    net.op("QUANTIZE", T(IMAGE), version=3)
    return net


FAILURES: list[tuple[Callable[[], Net], str]] = [
    (lambda: separable(hard_swish=True, squeeze_excite=True, side=224, width=36), "coral-usb"),
    (floats, "coral-usb"),
    (newer, "coral-usb"),
    (compiled, "pi4"),
]


@pytest.mark.parametrize(("build", "profile"), FAILURES)
def test_a_finished_file_gets_no_advice_for_recipes(
    build: Callable[[], Net], profile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(build().bytes())
    assert cli.main(["check", str(path), "--profile", profile]) == 1
    said = capsys.readouterr()
    assert "next:" in said.err
    for word in ("--set", "--fix", "student"):
        assert word not in said.out + said.err
    for name in re.findall(r"--profile ([\w-]+)", said.err):
        assert cli.main(["check", str(path), "--profile", name]) == 0
    for command in re.findall(r"edgekd ((?:models|profiles)(?: [a-z]+-[a-z]+)?)", said.err):
        assert cli.main(command.split()) == 0


def test_settings_for_a_finished_file_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(separable().bytes())
    assert cli.main(["check", str(path), "--set", "data.input_px=96"]) == 2
    assert "--set changes nothing of" in capsys.readouterr().err
    assert cli.main(["check", str(path), "--fix"]) == 2


def test_the_limits_that_a_failure_names_can_be_changed(tmp_path: Path) -> None:
    graph = floats().read()
    failed = check_graph(graph, load_profile("coral-usb"), "x", finished=True)
    assert "min_mapped, max_memory_share" in failed.next_step  # type: ignore[operator]
    lower = load_profile(board(tmp_path, "coral-usb", min_mapped=0.0))
    assert check_graph(graph, lower, "x", finished=True).passed
    tight = load_profile(board(tmp_path, "pi4", max_memory_share=0.001))
    large = check_graph(graph, tight, "x", file_bytes=2**22, finished=True)
    assert "min_mapped, max_memory_share" in large.next_step  # type: ignore[operator]
    wide = load_profile(board(tmp_path, "pi4", max_memory_share=0.1))
    assert check_graph(graph, wide, "x", file_bytes=2**22, finished=True).passed


def test_the_edit_of_a_student_does_what_it_promises() -> None:
    """The text beside the edit is typed as it stands; tests/test_auto_fix.py has the others."""
    from edgekd.assessment.student_check import check_named

    before = check_named("mobilenetv2_035", "coral-usb", ["data.input_px=64"])
    edit = next(edit for edit in before.edits if edit.key == "input")
    typed = [word for word in shlex.split(edit.how) if word != "--set"]
    after = check_named("mobilenetv2_035", "coral-usb", ["data.input_px=64", *typed])
    assert after.model == "mobilenetv2_035 at 32 px"
    assert after.predicted.latency_ms == pytest.approx(edit.latency_ms, rel=0.02)


COMPILER = """#!{python}
import sys
print("Edge TPU Compiler version 16.0.384591198")
print("ERROR: Didn't find op for builtin opcode 'EXP' version '2'.")
print("Invalid model: model.tflite\\nModel could not be parsed")
sys.exit(1)
"""


def test_a_compiler_that_fails_stands_beside_the_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "edgetpu_compiler"
    program.write_text(COMPILER.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "model.tflite"
    path.write_bytes(separable().bytes())
    assert cli.main(["check", str(path), "--profile", "coral-usb"]) == 1
    said = capsys.readouterr()
    assert "edgetpu_compiler 16.0.384591198 did not compile this model" in said.err
    assert "opcode 'EXP' version '2'" in said.err
    assert "6 of 6 map on Edge TPU" in said.out
    assert "(predicted" in said.out
    assert "edgekd check" not in said.err, "the same command would say the same"


def test_a_compiler_that_cannot_be_run_leaves_the_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "edgetpu_compiler"
    program.write_text("#!/no/such/program\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "model.tflite"
    path.write_bytes(separable().bytes())
    assert cli.main(["check", str(path), "--profile", "coral-usb"]) == 0
    assert "cannot be run" in " ".join(capsys.readouterr().out.split())


TABLE = """#!{python}
import pathlib
print("Edge TPU Compiler version 16.0.384591198")
print("Model compiled successfully in 7 ms.")
print("On-chip memory used for caching model parameters: 1.00KiB")
print("On-chip memory remaining for caching model parameters: 7.00MiB")
print("Off-chip memory used for streaming uncached model parameters: 3.00KiB")
print("Number of Edge TPU subgraphs: 1")
print("Total number of operations: {total}")
print("Operator                       Count      Status\\n")
print({rows!r})
print("Compilation succeeded!")
pathlib.Path("model_edgetpu.tflite").write_bytes(pathlib.Path({twin!r}).read_bytes())
"""


@pytest.mark.parametrize(("many", "code"), [(False, 0), (True, 1)])
def test_the_compilers_table_decides(
    many: bool,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The rules say that all map; the compiler leaves RESHAPE, or the convolutions, to the CPU."""
    model = separable()
    path, twin = tmp_path / "model.tflite", tmp_path / "twin"
    path.write_bytes(model.bytes())
    graph = model.read()
    twin.write_bytes(model.bytes() if many else compiled().bytes())
    left = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
    cpu = {"RESHAPE"} | ({"CONV_2D"} if many else set())
    rows = "\n".join(
        f"{op:<31}{count:<11}{left if op in cpu else 'Mapped to Edge TPU'}"
        for op, count in graph.counts().items()
    )
    program = tmp_path / "edgetpu_compiler"
    text = TABLE.format(python=sys.executable, total=len(graph.ops), rows=rows, twin=str(twin))
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["check", str(path), "--profile", "coral-usb"]) == code
    said = capsys.readouterr()
    out = " ".join(said.out.split())
    mapped = sum(count for op, count in graph.counts().items() if op not in cpu)
    assert f"{mapped} of 6 map on Edge TPU" in out
    assert "edgetpu_compiler 16.0.384591198" in out
    assert f"1 RESHAPE: {left}" in out
    assert "EdgeKD's own rules: 6 of 6 map" in out
    assert "1 KiB cached of 7169, 3 KiB streamed" in out
    assert "predicted" not in out
    assert ("CONV_2D #0: Operation is otherwise supported" in said.err) is many


# names


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("mobilnetv2_050", "mobilenetv2_050"),
        ("MobileNetV2-050", "mobilenetv2_050"),
        ("PI4", "pi4"),
        ("pi_zero_2w", "pi-zero-2w"),
        ("coral", "coral-usb"),
        ("inputpx", "input_px"),
        ("model.onnx", None),
        ("built", None),
        ("zzz", None),
        ("ultra96", None),
    ],
)
def test_a_hint_names_what_is_near(typed: str, meant: str | None) -> None:
    from edgekd.settings.model_specs import names

    assert nearest(typed, [*names(), *profile_names(), "input_px"]) == meant


def test_a_name_with_timms_tag(capsys: pytest.CaptureFixture[str]) -> None:
    from edgekd.settings.model_specs import spec

    assert spec("resnet18.a1_in1k").arch == "resnet18.a1_in1k"
    assert spec("mobilenetv2_050.lamb_in1k").roles == spec("mobilenetv2_050").roles
    assert cli.main(["check", "mobilenetv2_035.nosuch", "--set", "data.input_px=32"]) == 2
    assert "leave out .nosuch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: (folder / "a.onnx").write_bytes(b"\x08\x08") and "a.onnx", "an ONNX model"),
        (lambda folder: (folder / "a.xyz").write_bytes(b"what") and "a.xyz", "of another kind"),
        (lambda folder: (folder / "d").mkdir() or "d", "is a folder without model.tflite"),
        (lambda _folder: "none.onnx", "no such file"),
        (lambda _folder: "no/such.tflite", "no such file"),
    ],
)
def test_other_things_are_named(
    make: Callable[[Path], str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = make(tmp_path)
    assert cli.main(["check", str(tmp_path / name)]) == 2
    text = capsys.readouterr().err
    assert said in text
    assert name in text
    assert "did you mean" not in text


def test_a_folder_with_a_networks_name_does_not_hide_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mobilenetv2_035", "built"):
        (tmp_path / name).mkdir()
    assert cli.main(["check", "mobilenetv2_035", "--set", "data.input_px=32"]) == 0
    assert cli.main(["check", "built"]) == 2
    assert "built is a folder without model.tflite" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out", "out/model.tflite", "MODEL.TFLITE", "renamed.bin"])
def test_files_and_folders_that_hold_a_model(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name if "." in name else tmp_path / name / "model.tflite"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(separable().bytes())
    assert cli.main(["check", str(tmp_path / name)]) == 0
    assert "6 of 6 map" in capsys.readouterr().out
