"""The manifest in calib_data/ matches what its source draws, and differences are named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ROOT / "calib_data" / "phantom-120.json"


def manifest(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the tool on phantom:120 with the settings of the manifest in the repository."""
    drawn = ["--data", "phantom:120", "--calibration", "24", "--golden", "8"]
    tool = [sys.executable, str(ROOT / "tools" / "calibration_manifest.py"), str(file)]
    return subprocess.run(
        [*tool, *drawn, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_manifest_in_the_repository_is_what_the_generator_draws(tmp_path: Path) -> None:
    same = manifest(MANIFEST, "--check")
    assert same.returncode == 0, same.stderr
    again = tmp_path / "again.json"
    assert manifest(again).returncode == 0
    assert again.read_bytes() == MANIFEST.read_bytes()


def test_another_draw_and_another_setting_are_named(tmp_path: Path) -> None:
    other = manifest(MANIFEST, "--check", "--seed", "1")
    assert other.returncode == 2
    assert "the calibration set of phantom:120 differs from the manifest" in other.stderr
    assert "next:" in other.stderr
    body = json.loads(MANIFEST.read_text())
    (tmp_path / "edited.json").write_text(json.dumps({**body, "fit": "pad"}))
    edited = manifest(tmp_path / "edited.json", "--check")
    assert edited.returncode == 2
    assert "fit is 'squash', but 'pad' in the manifest" in edited.stderr
