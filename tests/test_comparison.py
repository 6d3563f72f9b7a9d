"""`edgekd report A B`: builds side by side as a table, JSON and a page."""

from __future__ import annotations

import json

import pytest

from edgekd.app import cli
from edgekd.reporting import comparison, interval_charts
from edgekd.reporting.comparison_figures import best
from edgekd.reporting.comparison_page import page
from edgekd.reporting.comparison_record import SCHEMA
from edgekd.settings import recipe
from tests.html_reader import HOSTILE, Page, assert_alone
from tests.sample_report import every_text, other, report, whole


def folder(path, body, sets):
    path.mkdir()
    (path / "report.json").write_text(json.dumps(body))
    (path / "recipe.toml").write_text(recipe.to_toml(recipe.load(None, sets)))
    return path


@pytest.fixture
def pair(tmp_path):
    return [
        folder(tmp_path / "one", whole(), ["distil.epochs=20"]),
        folder(tmp_path / "two", other(), ["distil.epochs=9", "teacher.name=none"]),
    ]


def test_newcombe_by_hand():
    """Newcombe 1998, table II, first example: 56 of 70 against 48 of 80."""
    from edgekd.evaluation.metrics import wilson

    found = comparison.difference(48 / 80, wilson(48 / 80, 80), 56 / 70, wilson(56 / 70, 70))
    assert found.value == pytest.approx(0.2)
    assert found.ci95 == pytest.approx([0.0524, 0.3339], abs=1e-3)


def test_figures_are_those_of_the_reports(pair):
    body = comparison.compare(comparison.read(pair))
    rows = {row.name: row for row in body.figures}
    assert rows["top-1"].values == [0.8812, 0.801]
    assert best(rows["top-1"]) == [True, False]
    assert rows["file"].values == [1_048_576, 524_288]
    assert best(rows["file"]) == [False, True]
    (latency,) = [
        row for name, row in rows.items() if name.startswith("median latency")
    ]  # the emulated run has no time
    assert latency.values == [1.99, 0.995]
    assert body.changes[0] is None
    assert body.changes[1].top1.value == pytest.approx(0.801 - 0.8812)
    assert [row.stage for row in body.waterfall] == [
        "teacher",
        "student",
        "qat",
        "onnx",
        "tflite",
    ]
    assert body.waterfall[0].rows[1] is None
    assert {row.op: row.counts for row in body.ops} == {
        "CONV_2D": [35, 20],
        "ADD": [10, 0],
        "MEAN": [0, 1],
        "SOFTMAX": [1, 0],
    }
    assert {row.key: row.values for row in body.settings} == {
        "distil.epochs": [20, 9],
        "teacher.name": [recipe.load(None).teacher.name, "none"],
    }
    assert body.same_data is True


def test_a_bundle_without_a_recipe_is_compared_by_its_report(pair):
    (pair[1] / "recipe.toml").unlink()
    body = comparison.compare(comparison.read(pair))
    assert {row.key for row in body.settings} == {"distil.student", "teacher.name"}


def test_names_tell_folders_apart(tmp_path):
    for name in ("a/run", "b/run"):
        (tmp_path / name).parent.mkdir()
        folder(tmp_path / name, whole(), [])
    assert [build.name for build in comparison.read([tmp_path / "a/run", tmp_path / "b/run"])] == [
        "a/run",
        "b/run",
    ]


def test_the_page_tells_all_of_it(pair):
    read = assert_alone(page(comparison.compare(comparison.read(pair))))
    assert read.row("top-1 ").split()[1:] == ["88.1%", "80.1%"]
    assert "20 9" in read.row("distil.epochs")
    assert "35 20" in read.row("CONV_2D")
    assert "B: top-1 −8.0 points" in read.text
    (chart,) = [value for value in read.values("svg", "aria-label") if value]
    assert "TFLite int8: A 88.1%, B 80.1%" in chart


def test_hostile_names_are_only_texts():
    builds = [
        comparison.Build(HOSTILE, report(every_text(body)), {HOSTILE: text})
        for body, text in ((whole(), HOSTILE), (other(), "x"))
    ]
    text = page(comparison.compare(builds))
    read = assert_alone(text)
    assert "script" not in {tag for tag, _, _ in read.attributes}
    assert "\u202e" not in text


def test_unfinished_builds_are_compared_as_far_as_they_go():
    bare = {
        key: whole()[key] for key in ("schema", "edgekd", "profile", "seed", "data", "stages")
    } | {"models": {}, "training": {}}
    text = page(
        comparison.compare(
            [comparison.Build("a", report(bare), {}), comparison.Build("b", report(bare), {})]
        )
    )
    assert "not finished" in Page(text).text


def test_grouped_lines_lie_where_the_figures_say():
    drawn = interval_charts.grouped(
        [("Student", [interval_charts.Interval("A", 0.75, 0.5, 1.0), None])], "label"
    )
    assert drawn.count("<circle") == 1
    assert 'cx="50.00%"' in drawn
    assert interval_charts.grouped([("Student", [None])], "label") == ""


def test_the_command(pair, tmp_path, capsys):
    names = [str(path) for path in pair]
    assert cli.main(["report", *names]) == 0
    assert "settings that differ" in capsys.readouterr().out
    assert cli.main(["report", *names, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == SCHEMA
    assert cli.main(["report", *names, "--html"]) == 0
    assert capsys.readouterr().out.startswith("<!DOCTYPE html>")
    assert cli.main(["report", names[0], "--html"]) == 0
    assert "EdgeKD build report" in capsys.readouterr().out
    assert cli.main(["report", names[0], str(tmp_path / "none")]) == 2
    (pair[1] / "recipe.toml").write_text("distil = [")
    assert cli.main(["report", *names]) == 2
    assert "recipe.toml" in capsys.readouterr().err
