"""The scripts and the notebook in examples/ run as they are, on small data."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from PIL import Image

from edgekd.data import source_registry
from edgekd.settings import model_specs, recipe
from tests.conftest import REPOSITORY
from tests.forking import Forking

EXAMPLES = REPOSITORY / "examples"
SMALL = (
    *("data.input_px=32", "data.golden=8", "data.calibration=16", "teacher.epochs=1"),
    *("distil.epochs=1", "distil.batch=8", "teacher.batch=8", "qat.epochs=1", "qat.batch=8"),
    *("views.per_image=1", "bench.runs=5", "bench.min_seconds=0.05", "certify.max_drop=1"),
    "certify.min_agreement=0",
)


def test_the_demo_is_a_recipe_of_today() -> None:
    demo = recipe.load(EXAMPLES / "demo.toml")
    assert source_registry.open_source(demo.data.source).facts.synthetic
    assert model_specs.spec(demo.distil.student).arch


def run(
    forking: Forking, script: str, *arguments: str, cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run an example as its docstring says, but in another folder."""
    return forking.run([*arguments], script=EXAMPLES / script, folder=cwd)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty small photos in two folders: dark and bright."""
    folder = tmp_path_factory.mktemp("photos")
    for name, level in (("dark", 60), ("bright", 200)):
        (folder / name).mkdir()
        for number in range(20):
            image = Image.effect_noise((48, 48), 30).point(lambda v, level=level: v // 4 + level)
            image.convert("RGB").save(folder / name / f"{number}.jpg")
    return folder


@pytest.fixture(scope="module")
def built(forking: Forking, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The out folder that examples/own_photos.py makes."""
    out = tmp_path_factory.mktemp("built") / "out"
    done = run(forking, "own_photos.py", str(photos), str(out), *SMALL, cwd=out.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "model.tflite is certified: True" in done.stdout
    assert "top-1" in done.stdout
    return out


def test_own_photos(built: Path) -> None:
    assert (built / "labels.txt").read_text() == "bright\ndark\n"
    assert (built / "model.tflite").is_file()


def test_verify_and_bench(forking: Forking, built: Path, tmp_path: Path) -> None:
    done = run(forking, "verify_and_bench.py", str(built), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "golden answers: 100.0% of 8 agree" in done.stdout
    (built / "labels.txt").write_text("dark\nbright\n")
    done = run(forking, "verify_and_bench.py", str(built), cwd=tmp_path)
    assert done.returncode == 1
    assert "FAILED" in done.stdout


def test_check_before_training(forking: Forking, tmp_path: Path) -> None:
    done = run(
        forking,
        "check_before_training.py",
        *("mobilenetv2_035,mobilenetv3_small_050", "pi4,coral-usb", "64"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if " ms " in line or "unknown" in line]
    assert len(lines) == 4
    assert "fails: " in done.stdout  # the Edge TPU does not run mobilenetv3's activations


def test_the_notebook_runs_and_shows_its_results() -> None:
    import nbformat  # 0.5 s, which the other workers do not need
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "build_a_model.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code), "outputs are not stored in the repository"
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    shown = {
        cell["id"]: "".join(
            output.get("text", "") + "".join(output.get("data", {}).get("text/html", ""))
            for output in cell.outputs
        )
        for cell in code
    }
    texts = list(shown.values())
    assert texts[-1] == "passed: True\n"
    assert sum("<table" in text for text in texts) == 4
    assert "golden agreement" in texts[-2]
