"""`edgekd report builds/*`: many builds as a table, on a page, on the terminal, and as JSON."""

from __future__ import annotations

import io
import json

import jsonschema
import pytest
import rich.console

from edgekd.app import cli
from edgekd.app.terminal.builds import NAME, broken, show_builds
from edgekd.core.errors import ModelFileError
from edgekd.reporting import build_folders, builds_page, builds_table, comparison, page_script
from edgekd.reporting.comparison_record import BuildLatency
from edgekd.search import published
from tests.conftest import REPOSITORY
from tests.html_reader import HOSTILE, assert_alone
from tests.sample_builds import builds, folders
from tests.sample_report import bench, report, whole
from tests.sample_search import search

SCRIPT = page_script.load("builds.js").text


def compared(count):
    return comparison.compare(builds(count))


def column(table, head):
    return next(one for one in table.columns if one.head == head)


def test_the_best_come_first_and_those_without_a_figure_last():
    kept = ("schema", "edgekd", "profile", "seed", "data", "stages", "models", "training")
    bare = comparison.Build("bare", report({key: whole()[key] for key in kept}), {"seed": 7})
    table = builds_table.table(comparison.compare([bare, *builds(6)]))
    aucs = [cell.value for cell in column(table, "AUC").cells]
    assert aucs[:-1] == sorted(aucs[:-1], reverse=True)
    assert aucs[-1] is None
    assert table.builds[-1].name == "bare"
    assert column(table, "gates").cells[-1].text == "not finished"


def test_only_settings_that_differ_have_a_column():
    heads = [one.head for one in builds_table.table(compared(16)).columns if one.key]
    assert heads == ["data.input_px", "distil.student"]
    chosen = column(builds_table.table(compared(16)), "data.input_px")
    assert chosen.choices == ["96", "128"]
    assert chosen.numeric


def test_a_bundle_does_not_hide_how_recipes_differ(tmp_path):
    found = folders(tmp_path, 14)
    (found[0] / "recipe.toml").unlink()
    settings = {row.key: row.values for row in comparison.compare(comparison.read(found)).settings}
    assert settings.keys() == {"data.input_px", "distil.student"}
    assert settings["data.input_px"] == [None, *[96] * 12, 128]
    assert settings["distil.student"][0] == "mobilenetv3_small_050"


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([], BuildLatency(2.0, 1.5, 3.0, False)),
        ([bench()], BuildLatency(2.0, 1.5, 3.0, False)),  # of another device
        ([bench(profile="pi4", emulated=True)], BuildLatency(2.0, 1.5, 3.0, False)),
        ([bench(profile="pi4")], BuildLatency(1.99, None, None, True)),
    ],
)
def test_a_measured_latency_goes_before_a_predicted_one(runs, expected):
    body = whole()
    body["bench"] = runs
    body["device"]["predicted"] |= {"latency_ms": 2.0, "low_ms": 1.5, "high_ms": 3.0}
    made = comparison.compare([comparison.Build("a", report(body), {})])
    assert made.builds[0].figures.latency == expected


def test_the_page_is_a_whole_table_without_its_script():
    body = compared(12)
    read = assert_alone(builds_page.page(body), SCRIPT)
    assert len(read.values("th", "data-v")) == 12
    for build in body.builds:
        assert build.name in "".join(read.text.split())
    assert read.values("th", "aria-sort") == ["descending"]
    assert read.values("div", "hidden") == [None]  # the controls, which the script shows
    front = read.text.count("on the front") - read.values("span", "hidden").count(None)
    assert front > 2


def test_the_front_on_the_page_is_the_front():
    body = compared(12)
    rows = [(row.figures.auc, row.figures.latency.latency_ms, row.name) for row in body.builds]
    best = {
        name
        for auc, latency, name in rows
        if not any(a >= auc and ms <= latency and (a, ms) != (auc, latency) for a, ms, _ in rows)
    }
    (label, _) = [
        text for text in assert_alone(builds_page.page(body), SCRIPT).values("svg", "aria-label")
        if text
    ]  # fmt: skip
    assert {part.split(":")[0] for part in label.split("On the front: ")[1].split("; ")} == best


def test_hostile_names_are_only_texts():
    made = builds(6)
    made[0] = comparison.Build(HOSTILE, made[0].report, {HOSTILE: HOSTILE})
    body = comparison.compare(made)
    read = assert_alone(builds_page.page(body), SCRIPT)
    assert "script" not in {tag for tag, _, _ in read.attributes}
    out = io.StringIO()
    show_builds(rich.console.Console(file=out, width=80).print, body)
    assert "\x00" not in out.getvalue()


def test_the_terminal_has_a_line_for_each_in_80_columns():
    out = io.StringIO()
    show_builds(rich.console.Console(file=out, width=80).print, compared(16))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "96 (13), 128 (3)" in text
    assert broken("a" * 20 + "-" + "b" * 20) == ["a" * 20 + "-", "b" * 20]
    assert max(map(len, broken("x" * 100))) == NAME


def test_what_a_pattern_finds_beside_builds_is_named_once(tmp_path, capsys):
    found = folders(tmp_path, 5)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "stopped").mkdir()
    published.write(tmp_path / "search", search())
    everything = [str(path) for path in sorted(tmp_path.iterdir())]
    assert cli.main(["report", *everything, "--json"]) == 0
    out, err = capsys.readouterr()
    body = json.loads(out)
    assert len(body["builds"]) == len(found)
    assert [row["why"] for row in body["skipped"]] == [
        "a file", "a search; name it alone", "no report.json"
    ]  # fmt: skip
    assert err.count("notes.txt") == 1
    schema = json.loads((REPOSITORY / "docs" / "schemas" / "comparison.json").read_text())
    jsonschema.validate(body, schema)
    assert cli.main(["report", *everything]) == 0
    assert "5 builds, the highest AUC first" in capsys.readouterr().out
    assert cli.main(["report", *everything, "--html"]) == 0
    assert "3 of the paths given" in assert_alone(capsys.readouterr().out, SCRIPT).text
    # The only build that is left is shown as one.
    assert cli.main(["report", str(found[0]), str(tmp_path / "stopped"), "--html"]) == 0
    assert "EdgeKD build report" in capsys.readouterr().out


def test_what_cannot_be_meant_is_refused(tmp_path, capsys):
    folders(tmp_path / "builds", 2)
    assert cli.main(["report", str(tmp_path / "builds")]) == 2
    assert "2 folders in it are builds\n  next: edgekd report" in capsys.readouterr().err
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ModelFileError, match="none of the 2 paths"):
        build_folders.sorted_out([tmp_path / "a.txt", tmp_path])
    with pytest.raises(ModelFileError, match="slip does not exist"):
        build_folders.sorted_out([tmp_path / "a.txt", tmp_path / "slip"])
