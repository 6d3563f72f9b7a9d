"""`edgekd search`: its arguments, its messages, and one small search from end to end."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

import edgekd
from edgekd.app import cli, quantities, search_command, search_workers
from edgekd.app.progress import Note, Update
from edgekd.app.search_arguments import Search
from edgekd.core.errors import EdgeKDError, RecipeError, WorkerLost
from edgekd.search import finalist, published, request, storage
from edgekd.search.candidate import Candidate
from edgekd.search.lease import this_worker
from edgekd.search.ledger import Kind, Ledger, State
from edgekd.search.limits import Limits, Objective
from edgekd.search.record import Latency, LimitName, SearchState, Source

# The smallest students, at the smallest size, so that training takes seconds.
SPACE = """\
students = ["mobilenetv2_035"]
input_px = [32]
pruned = [0.0]
[edits]
hard_swish = [""]
squeeze_excite = [""]
"""
QUICK = {
    "distil.epochs": 2,
    "qat.epochs": 0,
    "qat.rounding": "quick",
    "app_inputs.images": 0,
    "data.calibration": 16,
    "data.golden": 4,
    "bench.runs": 3,
}


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (quantities.latency, "15ms", 15.0),
        (quantities.latency, "0.2 s", 200.0),
        (quantities.latency, "800us", 0.8),
        (quantities.size, "2MB", 2_000_000),
        (quantities.size, "1.5MiB", 1_572_864),
        (quantities.size, "96kB", 96_000),
        (quantities.duration, "90m", 5400.0),
        (quantities.duration, "1.5h", 5400.0),
        (quantities.duration, "45s", 45.0),
    ],
)
def test_quantities(read, text: str, value: float) -> None:
    assert read(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-latency", "15"], "--max-latency: '15': expected a time with its unit"),
        (["--max-latency", "15MB"], "write 15ms or 0.2s"),
        (["--max-size", "2"], "expected a size with its unit"),
        (["--max-latency", "0ms"], "more than zero"),
        (["--max-latency", "-3ms"], "--max-latency"),
        (["--budget", "nan"], "expected a time with its unit"),
    ],
)
def test_quantities_without_a_unit_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["search", *words])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--max-latency 15ms, --max-size 2MB, --max-memory 8MB and --max-drop 1.0"),
        (["--max-drop", "-1"], "--max-drop -1: expected a limit of zero or more"),
        (["--max-drop", "1", "--objective", "speed"], "accuracy, latency or size"),
        (["--max-latency", "5ms", "--objective", "latency"], "needs --max-drop"),
        (["--max-latency", "5ms", "--workers", "0"], "--workers 0: expected 1 to"),
        (["--max-latency", "5ms", "--storage", "sqlite:///x.db"], "two workers"),
        (["--max-latency", "5ms", "--also", "pi99"], "pi99"),
        (["--max-latency", "5ms", "--space", "missing.toml"], "missing.toml"),
    ],
)
def test_bad_arguments_get_one_message(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bad input ends with exit code 2 and a message that names the argument; nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["search", "--data", "phantom:120", *words]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "next:" in told
    assert list(tmp_path.iterdir()) == []


def test_the_command_of_a_search_can_be_typed_again() -> None:
    """The command in search.json parses to the same arguments, without the password."""
    asked = Search(
        profile="pi4", data="my photos", max_latency=4.5, max_size=2e6, max_drop=1.0,
        budget=5400.0, also=["android-cpu"], settings=["distil.epochs=3"], seed=2,
        teacher_frozen=True, storage="postgresql://me:secret@host/db",
    )  # fmt: skip
    line = search_command.line(asked)
    assert "secret" not in line
    assert "'my photos'" in line
    import shlex

    words = shlex.split(line)[1:]
    from edgekd.app import argument_parser

    again = argument_parser.parsed(Search, cli.make_parser().parse_args(words))
    assert dataclasses.replace(again, storage=asked.storage) == asked


def test_a_study_refuses_another_request(tmp_path: Path) -> None:
    where = str(tmp_path / "j")
    ledger = Ledger(storage.open_storage(where), where, "s", this_worker())
    asked = request.Asked(
        "pi4", "r", "photos (1)", Limits(latency_ms=5.0), Objective.ACCURACY,
        {"distil.epochs": 20}, request.of_candidates([Candidate("a", 64)]), 0,
    )  # fmt: skip
    request.agree(ledger, asked)
    request.agree(ledger, asked)
    for other, message in (
        (dataclasses.replace(asked, limits=Limits(latency_ms=8.0)), "limits.latency_ms was 5.0"),
        (dataclasses.replace(asked, settings={"distil.epochs": 9}), "distil.epochs was 20"),
        (dataclasses.replace(asked, seed=1), "seed was 0 and is 1"),
        (dataclasses.replace(asked, space="other"), "the candidates are others"),
        (dataclasses.replace(asked, data="photos (2)"), "the images were photos"),
    ):
        with pytest.raises(RecipeError, match=message):
            request.agree(ledger, other)


def test_limits_are_checked_on_the_finished_file() -> None:
    limits = Limits(latency_ms=5.0, size_bytes=10**6, memory_bytes=2 * 10**6, drop_points=1.0)
    slow = Latency(
        profile="pi4", source=Source.PREDICTED, latency_ms=6.0, low_ms=5.1, high_ms=7.0, basis=""
    )
    found = finalist.misses(limits, slow, 10**6 + 1, 3 * 10**6, 1.2)
    assert [miss.limit for miss in found] == [
        LimitName.LATENCY,
        LimitName.SIZE,
        LimitName.MEMORY,
        LimitName.DROP,
    ]
    open_ = Latency(
        profile="pi4", source=Source.PREDICTED, latency_ms=6.0, low_ms=4.9, high_ms=7.0, basis=""
    )
    assert finalist.misses(limits, open_, 10**6, 2 * 10**6, 1.0) == []


def asked_for(tmp_path: Path, **more: object) -> dict[str, object]:
    space = tmp_path / "space.toml"
    space.write_text(SPACE)
    return {
        "data": "phantom:120", "teacher": "none", "space": space, "out": tmp_path / "found",
        "settings": QUICK, **more,
    }  # fmt: skip


def test_what_cannot_be_kept_is_told_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An impossible limit: exit code 1, the nearest candidates with what they miss, no trial."""
    (tmp_path / "space.toml").write_text(SPACE)
    words = ["search", "--data", "phantom:120", "--teacher", "none", "--max-latency", "1us"]
    words += ["--max-size", "1kB", "--space", str(tmp_path / "space.toml")]
    assert cli.main([*words, "--out", str(tmp_path / "found")]) == 1
    told = capsys.readouterr()
    assert "mobilenetv2_035 32 px" in told.out
    assert "at most 0.001 ms allowed" in told.out
    assert "nothing was trained" in told.err
    made = published.read(tmp_path / "found")
    assert made.state is SearchState.NOTHING_FITS
    assert made.dropped.candidates == 1
    assert not (tmp_path / "found" / "trials.journal").exists()
    # The next step, typed, lets in the nearest candidate.
    advised = told.err.partition("next: ")[2].partition(" would let in")[0].split()
    assert sorted(advised[::2]) == ["--max-latency", "--max-size"]
    values = dict(zip(advised[::2], advised[1::2], strict=True))
    (nearest,) = made.dropped.nearest
    least = {miss.limit: miss.found for miss in nearest.misses}
    assert quantities.latency(values["--max-latency"]) >= least[LimitName.LATENCY]
    assert quantities.size(values["--max-size"]) >= least[LimitName.SIZE]


def test_a_small_search_that_is_interrupted_goes_on(tmp_path: Path) -> None:
    """Ctrl-C behind the first trial; the same call does the rest, and builds what it recommends."""

    def until_first_trial(update: Update, /) -> None:
        if isinstance(update, Note) and "rung 1" in update.text:
            raise KeyboardInterrupt

    asked = asked_for(tmp_path, max_latency=5.0, budget=3600.0)
    with pytest.raises(KeyboardInterrupt):
        edgekd.search(**asked, progress=until_first_trial)  # type: ignore[arg-type]
    out = tmp_path / "found"
    before = published.read(out)
    assert before.state is SearchState.INTERRUPTED
    assert [row.score is None for row in before.trials] == [False]
    found = edgekd.search(**asked)  # type: ignore[arg-type]
    found.raise_if_failed()
    assert found.path.is_file()
    where = str(out / "trials.journal")
    trials = Ledger(storage.open_storage(where), where, "found", this_worker()).trials()
    assert len({each.task for each in trials}) == len(trials)
    assert {each.state for each in trials} == {State.DONE}
    assert sum(each.task.kind is Kind.BUILD for each in trials) == 1
    made = published.read(out)
    assert made == found.search
    assert made.state is SearchState.FINISHED
    assert made.recommended is not None
    assert [made.recommended.candidate] == [row.candidate for row in made.finalists]
    for row in made.finalists:
        body = json.loads((out / row.folder / "certificate.json").read_text())
        assert body["passed"] is True
    # Again: everything is there, and nothing runs.
    again = edgekd.search(**asked)  # type: ignore[arg-type]
    assert [row.seconds for row in again.search.finalists] == [
        row.seconds for row in made.finalists
    ]


def of_python(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let workers be this program."""
    first = "import json, os, signal, sys; asked = sys.stdin.buffer.read()"
    program = (sys.executable, "-c", f"{first}; {code}")
    monkeypatch.setattr(search_workers, "PROGRAM", program)


def test_workers_that_end_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """One killed worker leaves its work to the others; an error of one ends all."""
    asked = Search(max_latency=5.0, workers=2)
    notes: list[str] = []

    def note(update: Update, /) -> None:
        notes.append(str(update))

    of_python(monkeypatch, "import pickle; assert pickle.loads(asked).max_latency == 5.0")
    search_workers.run(asked, 2, note)
    assert notes == []
    of_python(monkeypatch, "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(WorkerLost, match=r"every worker has ended.*SIGKILL"):
        search_workers.run(asked, 2, note)
    told = {"code": 2, "what": "the disk is full", "next": "free some space"}
    of_python(monkeypatch, f"print(json.dumps({told!r})); sys.exit(2)")
    with pytest.raises(EdgeKDError, match="the disk is full"):
        search_workers.run(asked, 2, note)
