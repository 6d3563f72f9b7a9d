"""Several real processes over gloo do what one does; one that is lost gives a single message."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
import torch

from edgekd.app import cli, process_launcher
from edgekd.app.cli import main
from edgekd.core.errors import RecipeError
from edgekd.training.processes import Team
from tests import sharing
from tests.conftest import REPOSITORY
from tests.forking import Forking
from tests.small_build import SMALL

HOSTS = REPOSITORY / "tests" / "hosts.py"
# The student alone, with 2 steps in each of 3 epochs.
STUDENT = [*SMALL, "--teacher", "none", "--set", "distil.epochs=3", "--until", "distil"]


def told(stderr: str) -> list[str]:
    """EdgeKD's own lines of how it ended; torchrun adds a report of its own."""
    ends = ("edgekd: error", "edgekd: ended")
    return [line for line in stderr.splitlines() if line.startswith(ends)]


def test_four_processes_on_two_hosts_train_what_one_does(forking: Forking, tmp_path: Path) -> None:
    done = forking.run(["share", str(tmp_path)], script=HOSTS)
    assert done.returncode == 0, done.stderr
    alone = sharing.found(Team())
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(4)]
    parts = zip(*(each.pop("rows") for each in found), strict=True)
    assert [[row for part in batch for row in part] for batch in parts] == alone["rows"]
    first = found[0]
    assert all(each == first for each in found)
    assert first["knowledge"] == alone["knowledge"]
    # In float32 a part of a batch may be summed in another order than a whole one.
    assert first["ranges"] == pytest.approx(alone["ranges"], rel=1e-6)
    assert first["teacher"][0]["loss"] == pytest.approx(alone["teacher"][0]["loss"], rel=1e-6)
    # float64, but views, targets and some adapters' constants are made in float32
    assert first["exact"] == pytest.approx(alone["exact"], rel=1e-9, abs=1e-9)


def test_a_process_is_killed_and_the_next_run_resumes(forking: Forking, tmp_path: Path) -> None:
    out, log = str(tmp_path / "out"), tmp_path / "log.jsonl"
    done = forking.run(["kill", *STUDENT, "--out", out], script=HOSTS)
    assert done.returncode != 0
    # It comes from the process that misses an answer, or from one that torchrun ends sooner.
    (line,) = told(done.stderr)
    assert "another process of this build has ended" in line
    assert "Traceback" not in done.stderr.partition("torch/distributed/elastic")[0]
    # It resumes at the second epoch, also with another number of processes.
    assert main([*STUDENT, "--out", out, "--log", str(log)]) == 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["stage"] for event in events if event["event"] == "stage started"] == ["distil"]
    assert next(event["done"] for event in events if event["event"] == "progress") > 2


def test_one_process_fails_and_all_end_with_its_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (sys.executable, "-m", "tests.failing", "1")
    monkeypatch.setattr(process_launcher, "PROGRAM", program)
    monkeypatch.chdir(REPOSITORY)
    assert main([*SMALL, "--out", str(tmp_path / "out"), "--processes", "2"]) == 2
    stderr = capfd.readouterr().err
    assert told(stderr) == ["edgekd: error: process 1 cannot go on"]
    assert "Traceback" not in stderr
    assert {path.name.split("-")[0] for path in (tmp_path / "out" / "store").iterdir()} == {
        "data",
        "inputs",
    }


def test_a_process_that_is_killed_is_named(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = (
        "import os, time; os.kill(os.getpid(), 9) if os.environ['RANK'] == '1' else time.sleep(60)"
    )
    monkeypatch.setattr(process_launcher, "PROGRAM", (sys.executable, "-c", kill))
    assert main(["build", "--processes", "3"]) == 2
    assert "process 2 of 3 was ended by SIGKILL" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("processes", "told"),
    [("2", "ended by the launcher, maybe because another process"), ("1", "interrupted")],
)
def test_sigterm_under_a_launcher_names_it(
    processes: str,
    told: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setattr(cli, "_check_working_folder", lambda: signal.raise_signal(signal.SIGTERM))
    kept = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["doctor"]) == 130
    finally:
        signal.signal(signal.SIGTERM, kept)
    assert f"edgekd: {told}" in capfd.readouterr().err


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"32 images cannot be shared evenly by 3 "):
        Team(1, 3).share(torch.arange(32))
