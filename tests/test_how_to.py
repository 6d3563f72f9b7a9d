"""The how-to pages are walked through: what a page says to type works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import REPOSITORY
from tests.forking import Forking

PAGES = REPOSITORY / "docs" / "how_to"


def blocks(page: str) -> list[str]:
    """The indented code blocks of a page, without their indent."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE).strip() + "\n" for block in found]


def install(folder: Path, module: str, code: str, entry_points: str) -> None:
    """Put a module and its entry points into a folder in which Python looks for packages."""
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    section = entry_points.replace('[project.entry-points."', "[").replace('"]', "]")
    (info / "entry_points.txt").write_text(section.replace('"', ""))


def edgekd(forking: Forking, arguments: list[str], folder: Path) -> None:
    """Run a command of EdgeKD in a folder, with the packages that are in it."""
    done = forking.run(arguments, path=[folder], folder=folder)
    assert done.returncode == 0, done.stderr[-3000:]


def test_add_a_loss(forking: Forking, tmp_path: Path) -> None:
    code, entry_points, recipe, *_ = blocks("add_a_loss.md")
    install(tmp_path, "my_losses", code, entry_points)
    small = """
[data]
source = "phantom:100@40"
input_px = 32
[teacher]
name = "test_resnet"
weights = "none"
epochs = 1
[distil]
student = "mobilenetv2_035"
epochs = 1
"""
    (tmp_path / "recipe.toml").write_text(small + recipe)
    arguments = ["build", "recipe.toml", "--until", "distil", "--out", "out"]
    edgekd(forking, arguments, tmp_path)
    edgekd(forking, arguments, tmp_path)
    changed = (tmp_path / "my_losses.py").read_text().replace(".mean()", ".mean() * 2")
    (tmp_path / "my_losses.py").write_text(changed)
    edgekd(forking, arguments, tmp_path)
    # a changed loss trains the student again; the same one does not
    assert len(list((tmp_path / "out" / "store").glob("distil-*"))) == 2


def test_add_a_data_source(forking: Forking, tmp_path: Path) -> None:
    code, entry_points, *_ = blocks("add_a_data_source.md")
    install(tmp_path, "my_lists", code, entry_points)
    lines = []
    for number in range(80):
        label, value = ("dark", 40) if number % 2 else ("bright", 200)
        pixels = np.random.default_rng(number).integers(value - 30, value + 30, (40, 40, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f"{label} {number}.png")
    (tmp_path / "images.txt").write_text("\n".join(lines))
    arguments = ["build", "--profile", "pi4", "--data", "list:images.txt", "--teacher", "none"]
    edgekd(forking, [*arguments, "--until", "inputs", "--out", "out"], tmp_path)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["data"]["classes"] == ["bright", "dark"]
    assert report["data"]["train"] + report["data"]["val"] + report["data"]["test"] == 80
