"""The Python API: its names, signatures, results, progress and errors."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import edgekd
from edgekd.app import arguments, bench_arguments, progress
from edgekd.app.command_options import KEY
from tests.conftest import REPOSITORY

SMALL = {
    "data.input_px": 32,
    "distil.epochs": 1,
    "qat.epochs": 1,
    "views.per_image": 1,
    "bench.runs": 5,
    "bench.min_seconds": 0.05,
    "data.golden": 8,
    "data.calibration": 32,
    "certify.max_drop": 1,
    "certify.min_agreement": 0,
}
FUNCTIONS = {
    "build": arguments.Build,
    "check": arguments.Check,
    "bench": bench_arguments.Bench,
    "verify": arguments.Verify,
    "report": arguments.Report,
}


@pytest.fixture(scope="module")
def updates() -> list[edgekd.Update]:
    return []


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory, updates: list[edgekd.Update]
) -> edgekd.BuildResult:
    return edgekd.build(
        data="phantom:120@40",
        teacher="none",
        student="mobilenetv2_035",
        profile="pi4",
        out=tmp_path_factory.mktemp("api") / "out",
        settings=SMALL,
        progress=updates.append,
    )


def test_importing_edgekd_loads_no_large_library() -> None:
    code = "import sys, edgekd; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "numpy", "rich", "onnx", "PIL", "msgspec", "tomlkit"}


def test_every_public_name_exists_and_type_checkers_see_the_same() -> None:
    """The imports for type checkers name exactly the names that are imported lazily."""
    tree = ast.parse(Path(edgekd.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (statement.module, name.name)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for name in statement.names
    }
    assert seen == {(module, name) for name, module in edgekd._MODULE_OF.items()}
    for name in edgekd.__all__:
        assert getattr(edgekd, name) is not None
    assert set(dir(edgekd)) == set(edgekd.__all__)
    with pytest.raises(AttributeError, match="no attribute 'biuld'"):
        _ = edgekd.biuld  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_the_arguments_of_the_command_line(name: str) -> None:
    function, described = getattr(edgekd, name), FUNCTIONS[name]
    parameters = inspect.signature(function).parameters
    fields = {field.name: field for field in dataclasses.fields(described)}
    assert list(parameters) == list(fields)
    for field in fields.values():
        assert f"{field.name}: " in function.__doc__
        if KEY not in field.metadata:
            assert field.name == "progress"
    assert "%(" not in function.__doc__


def test_a_build(built: edgekd.BuildResult) -> None:
    assert built.passed
    assert built.failed == ()
    assert built.path == built.out / "model.tflite"
    assert built.path.is_file()
    assert built.certificate.passed
    assert [row.stage for row in built.accuracy] == ["student", "qat", "onnx", "tflite"]
    assert built.report.profile == "pi4"
    built.raise_if_failed()


def test_progress_is_reported(
    built: edgekd.BuildResult, updates: list[edgekd.Update], capsys: pytest.CaptureFixture[str]
) -> None:
    finished = [row for row in updates if isinstance(row, edgekd.StageFinished)]
    assert [row.stage for row in finished] == [row.stage for row in built.report.stages]
    started = {row.stage for row in updates if isinstance(row, edgekd.StageStarted)}
    assert started == {row.stage for row in finished}
    assert any(row.task == "distil" for row in updates if isinstance(row, edgekd.Advanced))
    for update in updates:
        assert str(update).isprintable() or isinstance(update, edgekd.Note)
    progress.silent(updates[0])
    assert capsys.readouterr().out == ""


def test_the_same_call_again_uses_the_finished_stages(built: edgekd.BuildResult) -> None:
    updates: list[edgekd.Update] = []
    again = edgekd.build(
        data="phantom:120@40",
        teacher="none",
        student="mobilenetv2_035",
        out=built.out,
        settings=[f"{key}={value}" for key, value in SMALL.items()],
        progress=updates.append,
    )
    finished = [row for row in updates if isinstance(row, edgekd.StageFinished)]
    assert all(row.cached for row in finished)
    assert again.report.artifact == built.report.artifact


def test_a_recipe_object_is_as_good_as_a_file(built: edgekd.BuildResult, tmp_path: Path) -> None:
    from edgekd.settings import recipe

    settings = recipe.load(built.out / "recipe.toml")
    updates: list[edgekd.Update] = []
    edgekd.build(settings, out=built.out, progress=updates.append)
    finished = [row for row in updates if isinstance(row, edgekd.StageFinished)]
    assert all(row.cached for row in finished)
    stopped = edgekd.build(
        edgekd.Recipe(), data="phantom:120@40", out=tmp_path, until="data", settings=SMALL
    )
    assert stopped.passed
    assert stopped.accuracy == ()
    with pytest.raises(edgekd.ModelFileError, match="stopped before"):
        _ = stopped.path
    with pytest.raises(edgekd.ModelFileError, match="stopped before"):
        _ = stopped.certificate


def test_a_failed_gate_is_a_result(tmp_path: Path) -> None:
    """A device without memory ends a build before training, and a check says the same."""
    profile = tmp_path / "tight.toml"
    profile.write_text(
        'extends = "pi4"\nname = "tight"\ntitle = "No room"\nmeasured_on_hardware = false\n'
        'memory_mib = { value = 1, source = "test" }\n'
        'max_memory_share = { value = 0.1, source = "test" }\n'
    )
    built = edgekd.build(
        data="phantom:120@40",
        teacher="none",
        student="mobilenetv2_035",
        profile=str(profile),
        out=tmp_path / "out",
        settings={"data.input_px": 32},
    )
    checked = edgekd.check("mobilenetv2_035", profile=str(profile), settings={"data.input_px": 32})
    for result in (built, checked):
        assert not result.passed
        assert "MiB" in result.failed[0]
        with pytest.raises(edgekd.GateFailed) as raised:
            result.raise_if_failed()
        assert raised.value.next_step == result.next_step != ""
        assert "failed" in result._repr_html_()
    assert built.accuracy == ()
    with pytest.raises(edgekd.ModelFileError, match="a gate stopped the build"):
        _ = built.report


def test_bad_input_raises_the_packages_own_errors(tmp_path: Path) -> None:
    with pytest.raises(edgekd.UnknownName, match="mobilenetv2_050"):
        edgekd.check("mobilenetv2_05")
    with pytest.raises(edgekd.UnknownName, match=r"distil\.epochs"):
        edgekd.build(settings={"distil.epoch": 3})
    with pytest.raises(edgekd.RecipeError, match="object is no value of a recipe"):
        edgekd.build(settings={"distil.epochs": object()})  # type: ignore[dict-item]
    with pytest.raises(edgekd.RecipeError, match="name different places"):
        edgekd.bench(tmp_path, local=True, ssh="pi@pi4")
    with pytest.raises(edgekd.RecipeError, match="needs a folder"):
        edgekd.report([])
    for function in (edgekd.verify, edgekd.report):
        with pytest.raises(edgekd.ModelFileError, match="does not exist"):
            function(tmp_path)
    with pytest.raises(TypeError, match="biuld"):
        edgekd.build(biuld=True)  # type: ignore[call-arg]
    assert issubclass(edgekd.UnknownName, edgekd.EdgeKDError)


def test_check_bench_verify_and_report(built: edgekd.BuildResult, tmp_path: Path) -> None:
    checked = edgekd.check("mobilenetv2_035", profile="pi4", settings={"data.input_px": 32})
    assert checked.passed
    assert checked.check.mapped.ops == checked.check.mapped.mapped
    assert edgekd.check(built.path).check.mapped.ops == checked.check.mapped.ops

    measured = edgekd.bench(built.out, runs=5, out=tmp_path)
    assert measured.run.golden is not None
    assert measured.run.golden.argmax_agreement == 1.0
    assert measured.files[0].parent == tmp_path / "bench"
    emitted = edgekd.bench(built.out, profile="pi4", emit=tmp_path / "board")
    assert {path.name for path in emitted.files} >= {"edgebench.py", "model.tflite"}
    with pytest.raises(edgekd.ModelFileError, match="0 measurements"):
        _ = emitted.run

    for folder in (built.out, built.out / "bundle", built.out / "bundle.zip"):
        verified = edgekd.verify(folder)
        assert verified.passed, verified.failed
        assert len(verified.checks) > 5

    report = edgekd.report(built.out)
    assert report.report.seed == 0
    assert report.html().startswith("<!DOCTYPE html>")
    compared = edgekd.report([built.out, str(built.out)])
    assert compared.comparison is not None
    assert len(compared.comparison.builds) == 2
    with pytest.raises(edgekd.ModelFileError, match="no single report"):
        _ = compared.report

    for result in (built, checked, measured, verified, report, compared):
        assert "<table" in result._repr_html_()


def test_what_verify_finds_is_in_the_result(built: edgekd.BuildResult, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(built.out, tmp_path / "copy"))
    (copy / "labels.txt").write_text("b\na\n")
    verified = edgekd.verify(copy)
    assert not verified.passed
    assert any("labels" in text for text in verified.failed)
    assert "failed" in verified._repr_html_()


def test_py_typed_is_shipped() -> None:
    assert (REPOSITORY / "edgekd" / "py.typed").is_file()
