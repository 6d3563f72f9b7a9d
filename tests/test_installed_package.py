"""The wheel, as a user gets it: it holds what it needs, and `mypy --strict` sees its types."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PROGRAM = '''
"""A user's program, checked against the installed package."""

from pathlib import Path

import edgekd


def show(update: edgekd.Update) -> None:
    if isinstance(update, edgekd.StageFinished):
        print(update.stage, f"{update.seconds:.1f} s")


def main(photos: Path) -> float:
    result = edgekd.build(
        data=photos,
        student="mobilenetv2_050",
        teacher="resnet18",
        profile="pi4",
        settings={"distil.epochs": 3, "qat.epochs": 1},
        progress=show,
    )
    passed: bool = result.passed and result.certificate.passed
    path: Path = result.path
    top1: float = max(row.top1 for row in result.accuracy)
    checked = edgekd.check("mobilenetv2_050", profile="coral-usb")
    latency: float | None = checked.check.predicted.latency_ms
    run = edgekd.bench(path, profile="pi4", ssh="pi@raspberrypi").run
    p50: float | None = run.latency_ms.p50
    found: list[str] = [check.found for check in edgekd.verify(result.out).checks]
    seed: int = edgekd.report(result.out).report.seed
    try:
        result.raise_if_failed()
    except edgekd.EdgeKDError as error:
        print(error.next_step)
    print(passed, latency, p50, found, seed, edgekd.__version__)
    return top1
'''

MISTAKES = """
import edgekd

edgekd.build(datta="photos/")
edgekd.build(seed="three")
text: str = edgekd.check("resnet18").check.predicted.latency_ms
edgekd.check()
edgekd.bench("m.tflite").run.latency
"""
# torch and numpy have types of their own, which say nothing about edgekd and take a minute to read.
SETTINGS = """
[mypy]
strict = true
[mypy-torch.*,torchvision.*,numpy.*,rich.*,accelerate.*,timm.*,onnx.*,jinja2.*]
follow_imports = skip
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (made,) = folder.glob("edgekd-*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel in it, and this environment's libraries."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False)
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    libraries = sysconfig.get_path("purelib", vars={"base": str(place)})
    target = Path(libraries)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
            *("--target", str(target), str(wheel)),
        ],
        check=True,
    )
    (target / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_wheel_holds_the_package_and_its_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"edgekd/py.typed", "edgekd/_data/device_profiles/pi4.toml"} <= names
    assert not [name for name in names if name.startswith(("tests/", "tools/", "examples/"))]
    in_repository = {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "edgekd").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert in_repository <= names


def test_the_installed_package_is_the_wheel(python: Path, tmp_path: Path) -> None:
    code = "import edgekd; print(edgekd.__file__, edgekd.check.__name__, edgekd.__version__)"
    done = subprocess.run(
        [python, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert str(python.parent.parent) in done.stdout


def mypy(python: Path, folder: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    (folder / "mypy.ini").write_text(SETTINGS)
    return subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", str(folder / "mypy.ini")),
            *(
                "--python-executable",
                str(python),
                "--cache-dir",
                str(python.parent.parent / "mypy"),
            ),
            *map(str, files),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )


def test_a_typed_program_passes_mypy_strict(python: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    examples = sorted((REPOSITORY / "examples").glob("*.py"))
    assert len(examples) >= 3
    done = mypy(python, tmp_path, program, *examples)
    assert done.returncode == 0, done.stdout


def test_mypy_finds_a_users_mistakes(python: Path, tmp_path: Path) -> None:
    program = tmp_path / "mistakes.py"
    program.write_text(MISTAKES)
    found = mypy(python, tmp_path, program).stdout
    lines = {int(line.split(":")[1]) for line in found.splitlines() if "error:" in line}
    assert lines == {4, 5, 6, 7, 8}, found
