"""search.html and the terminal's summary, for every way in which a search can end."""

from __future__ import annotations

import io
import json

import jsonschema
import msgspec
import pytest
import rich.console

from edgekd.app import cli
from edgekd.app.terminal.search import show_search
from edgekd.core.records import to_json
from edgekd.reporting import page_script
from edgekd.search import published
from edgekd.search.page import page
from edgekd.search.page_candidates import candidates_view
from edgekd.search.record import ScoreKind, Search, SearchState, TrialState
from tests.conftest import REPOSITORY
from tests.html_reader import assert_alone
from tests.sample_report import every_text
from tests.sample_search import search

# Fields that have one of a few values; `front.basis` is one, and a forecast's basis is a text.
FIXED = (
    *("schema", "state", "objective", "score", "number_format", "limit", "source", "basis"),
    *("standing", "stage"),
)
COPY = page_script.load("copy.js").text


def terminal(found, width=80):
    out = io.StringIO()
    show_search(rich.console.Console(file=out, width=width).print, found)
    return out.getvalue()


@pytest.mark.parametrize("state", SearchState)
def test_the_page_tells_how_the_search_ended(state):
    found = search(state)
    read = assert_alone(page(found), COPY)
    assert "None" not in read.text
    assert f"{found.dropped.candidates} of {found.considered} candidates" in read.text
    for choice in (found.recommended, found.runner_up):
        if choice is not None:
            assert choice.why in read.text
            assert choice.command in read.text
    assert ("Go on with the search" in read.text) == (
        state in (SearchState.INTERRUPTED, SearchState.RUNNING)
    )
    charts = [label for label in read.values("svg", "aria-label") if label]
    on_devices = [label for label in charts if label.startswith("AUC against latency on")]
    assert len(on_devices) == 2 * 2 * (state is not SearchState.NOTHING_FITS)


def test_the_recommended_network_comes_first_with_its_figures():
    found = search()
    best = next(row for row in found.finalists if row.candidate == found.recommended.candidate)
    text = assert_alone(page(found), COPY).text
    recommended = text[text.index("Recommended and runner-up") : text.index("Runner-up")]
    latency = best.latency("pi4")
    for figure in (f"{best.auc:.3f}", f"{latency.latency_ms:.3g} ms", f"{latency.low_ms:.3g}–"):
        assert figure in recommended


def test_what_latencies_rest_on_is_said_once_for_each_device():
    found = search()
    for number, row in enumerate(found.candidates[:3]):
        noted = [
            msgspec.structs.replace(each, basis=f"{each.basis}; wide, because of {number}")
            for each in row.forecasts
        ]
        found.candidates[number] = msgspec.structs.replace(row, forecasts=noted)
    text = assert_alone(page(found), COPY).text
    devices = {each.profile for each in found.candidates[0].forecasts}
    assert text.count("latencies rest on") == len(devices)
    assert f"further notes on 3 of {len(found.candidates)} candidates" in text
    assert "because of" not in text


def test_scores_at_each_rung_stand_in_the_row_of_their_candidate():
    found = search()
    trials = [row for row in found.trials if row.state is TrialState.FINALIST]
    read = assert_alone(page(found), COPY)
    rows = [row for row in read.rows if "among the best 3 of 3" in row]
    assert len(rows) == len(trials) == 3
    for trial in trials:
        assert any(f"{trial.score:.3f}" in row for row in rows)


def test_a_candidate_whose_worker_ended_counts_once():
    found = search()
    first = next(row for row in found.trials if row.rung == 0)
    lost = msgspec.structs.replace(
        first, state=TrialState.LOST, score=None, score_ci95=None, curve=msgspec.UNSET
    )
    again = msgspec.structs.replace(found, trials=[lost, *found.trials])
    view, before = candidates_view(again), candidates_view(found)
    assert view.rungs[0].trained == before.rungs[0].trained
    assert view.rungs[0].counts == before.rungs[0].counts
    alone = msgspec.structs.replace(found, trials=[lost])
    assert candidates_view(alone).rungs[0].counts == "1 left by its worker"


def test_three_hundred_candidates_are_folded_and_none_is_lost():
    found = search(sizes=(64, 80, 96, 112, 128, 144, 160), planned=300)
    tried = {row.candidate for row in found.trials}
    read = assert_alone(page(found), COPY)
    assert f"{len(tried) - 15} more candidates that were trained" in read.text
    assert len(tried) > 200
    shown = "".join(read.text.replace("\u00a0", " ").replace("_ ", "_").split())
    assert all("".join(name.split()) in shown for name in tried)


def test_hostile_texts_are_only_texts():
    body = msgspec.convert(every_text(to_json(search()), fixed=FIXED), Search)
    text = page(body)
    read = assert_alone(text, COPY)
    assert "script" not in {tag for tag, _, _ in read.attributes}
    assert "\u202e" not in text
    assert "\x00" not in terminal(body)


@pytest.mark.parametrize("state", SearchState)
def test_the_terminal_tells_the_same_in_80_columns(state):
    found = search(state)
    text = terminal(found)
    assert max(map(len, text.splitlines())) <= 80
    # Nothing is cut off, and no name is broken inside a word.
    assert "…" not in text
    for row in found.finalists:
        assert row.candidate.split()[0] in text
    for choice in (found.recommended, found.runner_up):
        if choice is not None:
            assert choice.command in " ".join(text.replace("\\\n", " ").split())


def test_a_front_of_top1_has_the_least_accuracy_as_a_line():
    found = msgspec.structs.replace(search(), score=ScoreKind.TOP1)
    assert "limit −1 points" in page(found)
    assert "limit −1 points" not in page(search())


def test_a_latency_that_may_be_over_the_limit_is_not_called_kept():
    """The favourable end of a predicted interval keeps the limit, and the figure does not."""
    found = search()
    first = next(row for row in found.finalists if row.candidate == found.recommended.candidate)
    over = [
        msgspec.structs.replace(row, latency_ms=5.4, low_ms=4.3, high_ms=6.8)
        for row in first.latencies
    ]
    slower = msgspec.structs.replace(first, latencies=over)
    rows = [slower if row is first else row for row in found.finalists]
    found = msgspec.structs.replace(found, finalists=rows)
    doubt = "latency 5.4 ms predicted, at most 5 ms allowed: the interval holds both"
    text = assert_alone(page(found), COPY).text
    assert text.count(doubt) == 2  # with the recommended network, and in the table
    assert text.count("✓ all kept") == len(rows) - 1
    assert doubt in " ".join(terminal(found).split())


def test_report_shows_the_out_folder_of_a_search(tmp_path, capsys):
    published.write(tmp_path, search())
    assert cli.main(["report", str(tmp_path)]) == 0
    assert search().recommended.candidate in capsys.readouterr().out
    assert cli.main(["report", str(tmp_path), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    schema = json.loads((REPOSITORY / "docs" / "schemas" / "search.json").read_text())
    jsonschema.validate(body, schema)
    assert cli.main(["report", str(tmp_path), "--html"]) == 0
    assert capsys.readouterr().out == (tmp_path / "search.html").read_text(encoding="utf-8")
