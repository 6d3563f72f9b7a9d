"""Which runtimes load a file: the table, the verdict of `edgekd check`, and a real interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgekd.app import cli
from edgekd.assessment.graph_check import check_graph
from edgekd.settings.device_profiles import DeviceProfile, load_profile
from edgekd.tflite import runtime_ops
from edgekd.tflite.flatbuffer import LiteGraph, read, write
from edgekd.tflite.runtime import load_runtime
from edgekd.tflite.runtime_ops import OpCode
from tests.lite_graphs import Net, T, separable

IMAGE = (1, 8, 8, 8)


def recoded(
    graph: LiteGraph, op: str, version: int | None = None, number: int | None = None
) -> bytes:
    """The file of a graph with another version, or another number, in one operator code."""
    for code in graph.model.operatorCodes:
        if max(code.builtinCode, code.deprecatedBuiltinCode) == getattr(schema.BuiltinOperator, op):
            code.version = code.version if version is None else version
            if number is not None:
                code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
    return write(graph.model)


def runs_on(folder: Path, runtime: str, base: str = "pi4") -> DeviceProfile:
    """A profile of the user's own whose device has another runtime."""
    path = folder / "board.toml"
    path.write_text(
        f'extends = "{base}"\nname = "board"\ntitle = "board"\nmeasured_on_hardware = false\n'
        f'runtime = {{ value = "{runtime}", source = "test" }}\n'
    )
    return load_profile(str(path))


def with_unused_code(name: str, version: int) -> bytes:
    """A file with an operator code that no operator uses."""
    graph = separable().read()
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = getattr(schema.BuiltinOperator, name), version
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    graph.model.operatorCodes.append(code)
    return write(graph.model)


def empty_model(number: int, version: int) -> bytes:
    """A file without operators and with one operator code."""
    model = Net(IMAGE).read().model
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
    model.operatorCodes = [code]
    model.subgraphs[0].outputs = np.array([0], np.int32)
    return write(model)


def loads(data: bytes) -> bool:
    """Whether the installed interpreter takes a file."""
    try:
        Interpreter(model_content=data)
    except (ValueError, RuntimeError):
        return False
    return True


def test_the_table_says_what_the_installed_runtime_loads() -> None:
    """Every builtin operator, from version 0 to one past the newest of any runtime."""
    installed = runtime_ops.runtime("ai-edge-litert", load_runtime()[0].split()[1])
    newest = runtime_ops.runtimes()[-1].newest
    numbers = {
        name: number for name, number in vars(schema.BuiltinOperator).items() if name[0] != "_"
    }
    special = {"CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}
    wrong = [
        code
        for name, number in numbers.items()
        if name not in special
        for code in (OpCode(name, version) for version in range(newest.get(name, 1) + 2))
        if loads(empty_model(number, code.version)) == installed.lacks(code)
    ]
    assert wrong == []


def test_a_runtime_has_what_older_ones_have() -> None:
    """So "or newer" holds in every message."""
    for older, newer in zip(runtime_ops.runtimes(), runtime_ops.runtimes()[1:], strict=False):
        assert all(newer.newest[op] >= version for op, version in older.newest.items())
    assert runtime_ops.packages() == ["tflite-runtime", "ai-edge-litert"]


@pytest.mark.parametrize(
    ("runtime", "version"),
    [("tflite-runtime 2.5.0.post1", 2), ("tflite-runtime==2.6", 2), ("tflite-runtime 2.9.1", 3)],
)
def test_the_newest_version_of_a_runtime(runtime: str, version: int) -> None:
    package, _, number = runtime.replace("==", " ").partition(" ")
    found = runtime_ops.runtime(package, number)
    assert (found.newest["QUANTIZE"], found.version) == (version, number)


@pytest.mark.parametrize("profile", ["pi4", "android-cpu", "android-nnapi", "coral-usb", "host"])
def test_a_version_that_nothing_has_fails_by_name(profile: str) -> None:
    graph = read(recoded(separable().read(), "CONV_2D", version=99))
    found = check_graph(graph, load_profile(profile), "x", finished=True)
    assert not found.passed
    assert "CONV_2D has version 99" in found.failures[0]
    assert "no runtime that EdgeKD knows has it" in found.failures[0]
    assert found.loading.oldest == {"tflite-runtime": None, "ai-edge-litert": None}
    assert (found.mapped.mapped, found.mapped.share_of_macs) == (0, 0.0)
    assert (found.edits, found.predicted.latency_ms) == ([], None)
    assert found.mapped.ends_at.op == "CONV_2D"


@pytest.mark.parametrize(
    ("profile", "oldest"),
    [("pi4", True), ("coral-usb", False), ("coral-dev-board", False), ("android-cpu", True)],
)
def test_a_version_newer_than_the_compiler(profile: str, oldest: bool) -> None:
    net = Net(IMAGE)
    net.op("QUANTIZE", T(IMAGE), version=3)
    found = check_graph(net.read(), load_profile(profile), "x", finished=True)
    assert found.passed is oldest
    assert found.loading.oldest == {"tflite-runtime": "2.7", "ai-edge-litert": "1.1.0"}
    if not oldest:
        assert "QUANTIZE has version 3, and edgetpu_compiler 16.0 knows version 1 to 2" in str(
            found.failures
        )
        assert "TensorFlow 2.5 or older" in found.next_step


def test_an_operator_that_the_compiler_lacks_in_every_version() -> None:
    net = Net(IMAGE)
    net.op("GELU", T(IMAGE), version=2)
    found = check_graph(net.read(), load_profile("coral-usb"), "x", finished=True)
    assert not found.passed
    assert "replace GELU in the network" in found.next_step
    assert "TensorFlow" not in found.next_step


@pytest.mark.parametrize(
    ("runtime", "passes"),
    [
        ("tflite-runtime 2.5.0", False),
        ("tflite-runtime 2.6", False),
        ("tflite-runtime==2.7.0", True),
        ("tflite-runtime", True),
        ("TensorFlow Lite 2.5", False),
        ("LiteRT 1.0.1", True),
        ("tflite-runtime 2.5 or ai-edge-litert", True),
        ("a runtime of my own", True),
    ],
)
def test_the_profiles_runtime_decides(tmp_path: Path, runtime: str, passes: bool) -> None:
    net = Net(IMAGE)
    net.op("QUANTIZE", T(IMAGE), version=3)
    found = check_graph(net.read(), runs_on(tmp_path, runtime), "x", finished=True)
    assert found.passed is passes, found.failures
    if not passes:
        assert "install tflite-runtime 2.7 or ai-edge-litert 1.1.0, or newer" in found.next_step


@pytest.mark.parametrize(
    ("custom", "version", "refused"),
    [
        ("edgetpu-custom-op", 1, "is a program for Coral's Edge TPU"),
        ("FlexErf", 1, "has no Flex delegate"),
        ("MyOwnOp", 1, "is a custom operator"),
        ("TFLite_Detection_PostProcess", 1, ""),
        ("TFLite_Detection_PostProcess", 2, "version 2"),
    ],
)
def test_custom_operators(custom: str, version: int, refused: str) -> None:
    """Those that every runtime brings load; the installed interpreter agrees on the others."""
    net = Net(IMAGE)
    net.op("CUSTOM", T(IMAGE), custom=custom, version=version)
    found = check_graph(net.read(), load_profile("pi4"), "x", finished=True)
    assert found.loading.loads is not bool(refused)
    if refused:
        assert custom in found.failures[0]
        assert refused in found.failures[0]
        with pytest.raises(RuntimeError, match=f"{custom}|Select TensorFlow op"):
            Interpreter(model_content=net.bytes()).allocate_tensors()


def test_a_compiled_file_runs_on_its_own_device_alone() -> None:
    net = Net((1, 8, 8, 3))
    net.op("CUSTOM", T((1, 10)), custom="edgetpu-custom-op")
    net.op("CUSTOM", T((1, 10)), custom="TFLite_Detection_PostProcess")
    own = check_graph(net.read(), load_profile("coral-usb"), "x", finished=True)
    assert own.passed
    assert (own.mapped.mapped, own.mapped.ops) == (1, 2)
    for name in ("pi4", "android-cpu", "android-gpu", "android-npu", "android-nnapi", "host"):
        other = check_graph(net.read(), load_profile(name), "x", finished=True)
        assert "edgetpu-custom-op" in other.failures[0]
        assert "the model that it was compiled from" in other.next_step


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (with_unused_code("STABLEHLO_CONVOLUTION", 1), "STABLEHLO_CONVOLUTION has version 1"),
        (recoded(separable().read(), "MEAN", number=999), "BUILTIN_999 has version 2"),
        (recoded(separable().read(), "MEAN", version=0), "MEAN has version 0"),
    ],
)
def test_codes_that_no_runtime_has(data: bytes, words: str) -> None:
    assert not loads(data)
    found = check_graph(read(data), load_profile("pi4"), "x", finished=True)
    assert words in found.failures[0]


def test_nothing_maps_never_reads_all_of_it() -> None:
    """A model without multiply-accumulates is judged by its operators."""
    net = Net(IMAGE, "FLOAT32")
    net.op("ADD", T(IMAGE, "FLOAT32"), T(IMAGE, "FLOAT32", "zeros"))
    found = check_graph(net.read(), load_profile("coral-usb"), "x", finished=True)
    assert (found.mapped.mapped, found.mapped.share_of_macs) == (0, None)
    assert "0% of the operators map" in found.failures[0]


def test_the_answer_fits_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import rich.console

    from edgekd.app.terminal.check import show_check

    console = rich.console.Console(width=80)
    found = check_graph(
        read(recoded(separable().read(), "CONV_2D", version=99)), load_profile("coral-usb"), "x"
    )
    show_check(console.print, found)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.startswith(("x", "  ")) for line in lines), "long texts go on below themselves"


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new.tflite"
    path.write_bytes(recoded(separable().read(), "CONV_2D", version=99))
    assert cli.main(["check", str(path), "--profile", "pi4"]) == 1
    said = capsys.readouterr()
    assert "CONV_2D has version 99" in said.err
    assert "0 of 6 map" in said.out
    assert "100%" not in said.out
