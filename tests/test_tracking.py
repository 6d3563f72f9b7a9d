"""`--track`: what real trackers keep, and that none of them can stop or slow a build."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from edgekd.app import cli
from edgekd.app.progress import Advanced, Note, StageFinished, Update
from edgekd.app.tracking import of_build, of_search, tensorboard_run, trackers
from edgekd.app.tracking.background import Background
from edgekd.app.tracking.kept import kept
from edgekd.app.tracking.secrets import HIDDEN, hidden
from edgekd.app.tracking.tracker import Run, Start
from edgekd.search.record import SearchState
from tests import sample_search
from tests.sample_report import report, whole

SECRET = "s3cr3t-of-mine"
SETTINGS = {"data.source": f"https://me:{SECRET}@host/x.csv", "seed": "0"}
FIGURES = {"test/student/top1": 0.75, "size/bytes": 1e6}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on how busy the machine is."""
    monkeypatch.setattr("edgekd.app.tracking.kept.WAIT", 3600.0)
    monkeypatch.setattr("edgekd.app.tracking.kept.WAIT_AFTER_FAILURE", 3600.0)


def track(name: str, folder: Path, seen: Callable[[Update], None] = lambda _: None) -> None:
    """A run with a part, a curve, a stage, figures and a file."""
    (folder / "report.html").write_text("page")
    with kept(name, seen) as tracking:
        assert tracking is not None
        run = tracking.start("chest x/y", SETTINGS)
        tracking(Advanced("distil", 1, 3, {"loss": 0.75}))
        tracking(Advanced("distil", 2, 3, {"loss": 0.5}))  # less than a second later: left out
        tracking(Advanced("distil", 3, 3, {"loss": 0.25}))
        tracking(StageFinished("distil", 1.5, cached=False, digest="ab"))
        run.final(FIGURES)
        run.file(folder / "report.html")
        part = run.part("trial 1", {"width": "0.5"})
        part.final({"score": 0.5})
        part.finish()


def told(updates: list[Update]) -> list[str]:
    return [update.text for update in updates if isinstance(update, Note)]


def bytes_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_mlflow_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    seen: list[Update] = []
    track("mlflow", tmp_path, seen.append)
    assert told(seen) == []
    assert len(seen) == 4

    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("edgekd")
    assert experiment is not None
    part, run = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "chest x/y"
    assert run.info.status == part.info.status == "FINISHED"
    assert part.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert run.data.params == {"data.source": f"https://{HIDDEN}@host/x.csv", "seed": "0"}
    assert run.data.metrics == {"distil/loss": 0.25, "seconds/distil": 1.5, **FIGURES}
    curve = client.get_metric_history(run.info.run_id, "distil/loss")
    assert [(point.step, point.value) for point in curve] == [(1, 0.75), (3, 0.25)]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]
    assert SECRET.encode() not in bytes_below(tmp_path)


def leveldb_records(data: bytes, start: int) -> Iterator[bytes]:
    """The records of a file of wandb: LevelDB's log format, whose blocks of 32 KiB begin `start`
    bytes before `data`.
    """
    at, record = 0, b""
    while at + 7 <= len(data):
        if (left := 32768 - (at + start) % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_wandb_keeps_it_offline_without_an_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # no login in netrc
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    seen: list[Update] = []
    track("wandb", tmp_path, seen.append)
    assert told(seen) == []

    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # its service has written everything when it has ended
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    runs, rows, summaries = [], [], dict[str, str]()
    for folder in folders:
        for data in leveldb_records(next(folder.glob("*.wandb")).read_bytes()[7:], start=7):
            record = Record.FromString(data)
            if record.HasField("run"):
                runs.append(record.run)
            if record.HasField("history"):
                items = record.history.item
                rows.append({"/".join(i.nested_key) or i.key: i.value_json for i in items})
            for item in record.summary.update:
                summaries["/".join(item.nested_key) or item.key] = item.value_json
    names = {run.display_name: run for run in runs}
    assert names.keys() == {"chest x/y", "trial 1"}
    assert names["trial 1"].run_group == names["chest x/y"].run_id
    losses = [(row["distil/step"], row["distil/loss"]) for row in rows if "distil/loss" in row]
    assert losses == [("1", "0.75"), ("3", "0.25")]
    assert float(summaries["test/student/top1"]) == 0.75
    assert list((tmp_path / "wandb").rglob("files/report.html"))
    assert SECRET.encode() not in bytes_below(tmp_path / "wandb")


def test_tensorboard_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TENSORBOARD_LOGDIR", raising=False)
    seen: list[Update] = []
    track("tensorboard", tmp_path, seen.append)
    assert told(seen) == []
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("chest_x_y-")
    read = EventAccumulator(str(folder))
    read.Reload()
    scalars = {
        name: [(each.step, each.value) for each in read.Scalars(name)]
        for name in read.Tags()["scalars"]
    }
    assert scalars.pop("failed") == [(0, 0)]
    assert scalars.pop("distil/loss") == [(1, 0.75), (3, 0.25)]
    assert scalars == {
        name: [(0, value)] for name, value in {"seconds/distil": 1.5, **FIGURES}.items()
    }
    assert (folder / "report.html").read_text() == "page"
    assert list((folder / "trial_1").glob("events.*"))
    kept_bytes = bytes_below(folder)
    assert b"data.source" in kept_bytes
    assert SECRET.encode() not in kept_bytes


class Failing:
    """A run whose calls raise what it is given."""

    identity = "id"

    def __init__(self, error: BaseException) -> None:
        self.error, self.calls = error, list[str]()

    def point(self, curve: str, value: float, step: int) -> None:
        self.calls.append(curve)
        raise self.error

    def final(self, figures: Mapping[str, float]) -> None:
        self.calls.append("final")

    def file(self, path: Path) -> None:
        self.calls.append("file")

    def finish(self, failed: bool) -> None:
        self.calls.append("finish")


def use(run: Run | BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every tracker begin with this run, or raise this error."""

    def begin(_start: Start) -> Run:
        if isinstance(run, BaseException):
            raise run
        return run

    monkeypatch.setattr(trackers, "opener", lambda _name: begin)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(f"cannot reach https://me:{SECRET}@host"),
        OSError(28, "No space left on device"),
        SystemExit(1),
        KeyError("run"),
    ],
)
def test_a_tracker_that_fails_in_the_middle_is_told_once_and_left(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, seen = Failing(error), list[Update]()
    use(run, monkeypatch)
    track("tensorboard", tmp_path, seen.append)
    assert run.calls == ["distil/loss"]
    (text,) = told(seen)
    assert text.startswith("edgekd: warning: --track tensorboard stopped, and the rest goes on")
    assert SECRET not in text
    assert len([update for update in seen if not isinstance(update, Note)]) == 4


def test_a_tracker_that_does_not_begin_is_told_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Update] = []
    use(ConnectionError("refused"), monkeypatch)
    track("tensorboard", tmp_path, seen.append)
    (text,) = told(seen)
    assert text.endswith(": refused")


def test_a_slow_tracker_is_not_waited_for() -> None:
    """Neither while it hangs, nor at the end, nor when its queue is full."""
    release = threading.Event()
    hanging = Background(most_waiting=2)
    try:
        hanging.do(release.wait)
        for _ in range(9):
            hanging.do(lambda: None)
        assert "more slowly" in hanging.failure()
        assert hanging.failure() == ""
        hanging.close()
        other = Background()
        other.do(release.wait)
        other.close(wait=0)
        assert "within 0 s" in other.failure()
    finally:
        release.set()


def test_an_error_of_the_build_ends_the_run_as_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends: list[bool] = []

    class Ending(Failing):
        def finish(self, failed: bool) -> None:
            ends.append(failed)

    use(Ending(RuntimeError()), monkeypatch)
    opened = kept("tensorboard", lambda _: None)
    tracking = opened.__enter__()
    assert tracking is not None
    tracking.start("name", {})
    assert not opened.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert ends == [True]


@pytest.mark.parametrize("name", ["mlflow", "wandb", "tensorboard"])
def test_without_the_package_the_extra_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    line = ["build", "--data", "phantom:120", "--until", "data", "--track", name]
    assert cli.main([*line, "--out", str(tmp_path / "out")]) == 2
    assert f"pip install 'edgekd[{name}]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_tracker_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["build", "--track", "mlfow"]) == 2
    assert "did you mean 'mlflow'?" in capsys.readouterr().err


def test_a_build_is_tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["build", "--data", "phantom:120", "--until", "data", "--track", "tensorboard"]
    assert cli.main([*line, "--out", "out", "--set", "data.input_px=64"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("out-")
    assert (folder / "report.html").read_bytes() == Path("out/report.html").read_bytes()
    assert b"data.input_px" in bytes_below(folder)


def test_the_figures_of_a_report() -> None:
    found = of_build.figures(report(whole()))
    assert {"gates/failed", "gates/undecided", "size/bytes", "certificate/passed"} <= found.keys()
    assert any(name.startswith("test/") and name.endswith("/top1") for name in found)
    assert all(isinstance(value, float) for value in found.values())


def test_secrets_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    text = "key 0123456789abcdef at postgres://a:b@h/db and https://h/x?sig=1&X-Token=abc&y=2"
    assert hidden(text) == (
        f"key {HIDDEN} at postgres://{HIDDEN}@h/db and https://h/x?sig=1&X-Token={HIDDEN}&y=2"
    )


def test_a_search_has_a_part_for_each_candidate_that_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    made = sample_search.search(SearchState.FINISHED)
    (tmp_path / "search.html").write_text("page")
    seen: list[Update] = []
    with kept("tensorboard", seen.append) as tracking:
        assert tracking is not None
        run = tracking.start("search", of_search.settings(made.request))
        of_search.give(run, tmp_path, made)
    assert told(seen) == []
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "search.html").read_text() == "page"
    assert b"limits." in bytes_below(folder)
    trained = {row.candidate for row in made.trials} | {row.candidate for row in made.finalists}
    parts = [path for path in folder.iterdir() if path.is_dir()]
    assert len(parts) == len(trained) > 1
    finalist = made.finalists[0]
    read = EventAccumulator(str(folder / tensorboard_run.file_name(finalist.candidate)))
    read.Reload()
    assert [each.value for each in read.Scalars("size/bytes")] == [finalist.size_bytes]
    assert f"rung/0/{made.score}" in read.Tags()["scalars"]
