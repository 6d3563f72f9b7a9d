"""Two real processes over gloo do what one does, and a failure of one gives a single message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgekd.core.errors import RecipeError
from edgekd.training.processes import Team
from tests import sharing
from tests.conftest import REPOSITORY
from tests.small_build import SMALL

LIMIT = 300  # seconds; alone on two cores a launch takes 25


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        *arguments,
    ]
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    done = launch("tests.sharing", str(tmp_path))
    assert done.returncode == 0, done.stderr
    alone = sharing.found(Team())
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert [a + b for a, b in zip(first.pop("rows"), second.pop("rows"), strict=True)] == alone[
        "rows"
    ]
    assert first == second
    assert first["knowledge"] == alone["knowledge"]
    # In float32 half a batch may be summed in another order than a whole one.
    assert first["ranges"] == pytest.approx(alone["ranges"], rel=1e-6)
    assert first["teacher"][0]["loss"] == pytest.approx(alone["teacher"][0]["loss"], rel=1e-6)
    # float64, but views, targets and some adapters' constants are made in float32
    assert first["exact"] == pytest.approx(alone["exact"], rel=1e-9, abs=1e-9)


def test_one_process_fails_and_all_end_with_its_message(tmp_path: Path) -> None:
    done = launch("tests.failing", "1", *SMALL, "--out", str(tmp_path / "out"))
    assert done.returncode != 0
    own = done.stderr.partition("torch/distributed/elastic")[0]  # torchrun adds a report of its own
    assert own.count("edgekd: ") == 1
    assert "edgekd: error: process 1 cannot go on" in own
    assert "Traceback" not in own
    assert {path.name.split("-")[0] for path in (tmp_path / "out" / "store").iterdir()} == {
        "data",
        "inputs",
    }


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"32 images cannot be shared evenly by 3 "):
        Team(1, 3).share(torch.arange(32))
