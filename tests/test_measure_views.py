"""The measurement of which changes of the views help a frozen teacher's head."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgekd.settings.recipe import ViewsConfig
from tests import small_vit
from tests.small_vit import PX, VIT
from tools import measure_views
from tools.measure_views import ALL, changes


def test_each_view_has_one_kind_of_change() -> None:
    config = ViewsConfig(rotate=5.0, mixup=0.5, blur=0.0, plain=True)
    found = dict(changes(config))
    single = found["views.rotate=5"]
    assert (single.rotate, single.scale, single.flip) == (5.0, 0.0, 0.0)
    assert not {"views.blur=0", "views.mixup=0.5", "views.per_image=8"} & set(found)
    assert found[ALL].mixup == 0
    assert not any(each.plain for each in found.values())
    assert found[ALL].scale == config.scale


def test_a_table_of_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["measure_views", "--data", "phantom:120@32", "--teacher"]
    command += [f"{VIT}@{small_vit.saved(tmp_path)}", "--set", f"teacher.px={PX}"]
    command += [
        "--set",
        "data.input_px=32",
        "--set",
        "views.scale=0",
        "--out",
        str(tmp_path / "out"),
    ]
    monkeypatch.setattr(sys, "argv", command)
    measure_views.main()
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if line.startswith("| ")]
    assert lines[1].startswith("| the images alone | ")
    assert lines[-1].startswith(f"| {ALL} | ")
    assert "views.rotate=8" in said
    assert "views.scale" not in said
