"""The comparison of methods: its rows, its table, and one run on few images."""

from __future__ import annotations

import math
import statistics
import sys
from pathlib import Path

import pytest

from edgekd.settings import presets
from tools import compare_methods, compare_rows
from tools.compare_rows import KD, NONE, Row
from tools.compare_table import Block, Result, closed, half_width, interval, table


def test_the_share_of_the_gap_is_a_ratio_of_paired_means() -> None:
    share, half = closed([0.80, 0.84, 0.82], [0.70, 0.78, 0.72], 0.90)
    gains, gaps = [0.10, 0.06, 0.10], [0.20, 0.12, 0.18]
    assert share == pytest.approx(sum(gains) / sum(gaps))
    rest = [a - share * b for a, b in zip(gains, gaps, strict=True)]
    spread = math.sqrt(sum(one * one for one in rest) / 2)  # their mean is 0
    assert half == pytest.approx(4.30265 * spread / math.sqrt(3) / (sum(gaps) / 3))


def test_the_interval_of_many_seeds_is_students() -> None:
    # 12 differences: 2.201 standard errors (Student's t with 11 degrees of freedom)
    values = [0.01 * (place % 2) for place in range(12)]
    error = statistics.stdev(values) / math.sqrt(12)
    assert half_width(values) == pytest.approx(2.201 * error, rel=1e-3)


def test_no_gap_and_one_seed_have_no_interval() -> None:
    assert math.isnan(closed([0.8, 0.8], [0.9, 0.9], 0.8)[0])
    share, half = closed([0.75], [0.7], 0.9)
    assert share == pytest.approx(0.25)
    assert math.isnan(half)
    assert interval([0.01]) == "+1.0"
    assert interval([0.01, 0.03]) == "+2.0 +- 12.7"


def result(top1: float, asked: float | None = None) -> Result:
    return Result(top1, top1 + 0.1, 20.0, math.nan, asked)


def test_one_table_for_several_data_sets() -> None:
    rows = [NONE, Row("kd", "plain KD", KD), Row("dkd", "decoupled KD", {})]
    blocks = [
        Block(
            name,
            teacher,
            {"none": {0: result(0.6), 1: result(0.7)}, "kd": {0: result(0.7), 1: result(0.78)}},
            {"dkd": "2 classes"},
        )
        for name, teacher in (("A", 0.85), ("B", 0.65))
    ]
    lines = table(rows, blocks, "top1").splitlines()
    assert len(lines) == 2 + 3 + 3
    assert all(line.count("|") == lines[0].count("|") for line in lines)
    assert lines[3].startswith(
        "| A | plain KD (`kd`) | 74.0 | 70.0, 78.0 | +9.0 +- 12.7 | 45% (-34% to 124%) | 0.840 |"
    )
    assert lines[3].endswith("| 20 | ? |")
    assert "refused: 2 classes" in lines[4]
    assert "no gap" in lines[6]
    assert "data" not in table(rows, blocks[:1], "auc").splitlines()[0]


def test_every_row_is_beside_labels_alone_with_its_steps_and_views() -> None:
    known = [*compare_rows.methods(Path("log.csv"), ""), *compare_rows.of_presets()]
    every = compare_rows.chosen(known, None, [])
    assert {row.alone for row in every} == {"none"}
    assert not any(row.preset for row in every)

    own = compare_rows.own("long=distil.epochs=60,distil.losses.dist=1,views.resizers=['pil','tf']")
    assert own.sets["views.resizers"] == ["pil", "tf"]
    found = compare_rows.chosen(known, ["kd", "patient"], [own])
    assert [row.name for row in found] == [
        "none",
        "kd",
        "patient-alone",
        "patient",
        "long-alone",
        "long",
    ]
    alone = {row.name: row for row in found}
    assert alone["patient-alone"].sets == {presets.KEY: "patient"}
    assert set(alone["long-alone"].sets) == {"distil.epochs", "views.resizers"}
    assert not alone["long-alone"].teacher
    assert alone["long"].alone == "long-alone"


@pytest.mark.parametrize("text", ["distil.epochs=3", "long", "=distil.epochs=3"])
def test_a_row_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(SystemExit, match="expected NAME=SETTING"):
        compare_rows.own(text)


def test_an_unknown_setting_stops_a_comparison_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = ["compare_methods", "--data", "phantom:120@32", "--teacher", "test_byobnet"]
    command += ["--rows", "kd", "--row", "mine=distil.explain=5", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match=r"row mine: unknown recipe key 'distil.explain'") as left:
        compare_methods.main()
    assert "did you mean" in str(left.value)
    assert not list(out.rglob("artifact*"))


def test_a_run_is_resumed_from_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare_methods", "--data", "phantom:120@32", "--teacher", "test_byobnet"]
    command += ["--student", "test_efficientnet", "--judged", "0", "--seeds", "0"]
    command += ["--rows", "kd", "script", "--out", str(tmp_path / "out")]
    for text in ("data.input_px=32", "data.limit=0", "teacher.epochs=1", "distil.epochs=1"):
        command += ["--set", text]
    command += ["--set", "views.per_image=1"]
    monkeypatch.setattr(sys, "argv", command)
    compare_methods.main()
    first = capsys.readouterr().out
    assert "(`script`)" in first
    monkeypatch.setattr(sys, "argv", [*command, "--finished"])
    compare_methods.main()
    assert capsys.readouterr().out == first
