"""Event files that `--tensorboard DIR` writes are read again by TensorBoard itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from edgekd.app import tensorboard_log
from edgekd.app.cli import main
from edgekd.app.progress import Advanced, Note, StageFinished, StageStarted, Update


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every curve in the event files of a folder: (step, value), by name."""
    read = EventAccumulator(str(folder))
    read.Reload()
    return {
        name: [(each.step, float(make_ndarray(each.tensor_proto))) for each in read.Tensors(name)]
        for name in read.Tags()[TENSORS]
    }


def test_figures_become_curves_and_updates_are_passed_on(tmp_path: Path) -> None:
    seen: list[Update] = []
    updates: list[Update] = [
        StageStarted("distil"),
        Advanced("distil", 1, 3, {"loss": 0.75}),
        Advanced("distil", 2, 3, {"loss": 0.5}),  # less than a second later: left out
        Advanced("distil", 3, 3, {"loss": 0.25}),
        StageFinished("distil", 1.5, cached=False, digest="ab"),
        StageFinished("qat", 9.0, cached=True, digest="cd"),
        Note("text"),
    ]
    with tensorboard_log.kept(tmp_path, seen.append) as log:
        for update in updates:
            log(update)
    assert seen == updates
    found = curves(tmp_path)
    assert [step for step, _ in found.pop("distil/rate")] == [3]
    assert found == {"distil/loss": [(1, 0.75), (3, 0.25)], "seconds/distil": [(0, 1.5)]}


def test_without_the_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    line = ["build", "--data", "phantom:120", "--until", "data", "--tensorboard", str(tmp_path)]
    assert main(line) == 2
    assert "pip install 'edgekd[tensorboard]'" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / "curves")
    line = ["build", "--data", "phantom:120", "--until", "data", "--tensorboard", place]
    assert main(line) == 2
    assert f"--tensorboard {place}: " in capsys.readouterr().err
