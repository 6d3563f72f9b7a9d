"""docs/how_to/add_a_device.md: its files are written and its commands run, except on a board."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from edgekd.app import cli
from edgekd.assessment import workload
from edgekd.assessment.latency import files
from edgekd.core.artifacts import sha256
from edgekd.device import bench_history
from edgekd.settings.device_profiles import load_profile
from edgekd.tflite.flatbuffer import read
from tests.bench_answers import answer, bench_of
from tests.lite_graphs import separable

PAGE = Path(__file__).parents[1] / "docs" / "how_to" / "add_a_device.md"
SIZES = [(32, 8), (48, 16), (64, 16), (64, 40), (96, 24), (128, 16), (128, 48), (192, 32)]
SLOWER = 1.7  # the imagined board against the coefficients of the profile pi4


def blocks() -> list[str]:
    """The code blocks of the page, without their indentation."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE.read_text("utf-8"), re.MULTILINE)
    return [re.sub(r"^    ", "", block.strip("\n"), flags=re.MULTILINE) for block in found]


def commands(block: str) -> list[list[str]]:
    """The arguments of the `edgekd` commands in a block, with patterns of files expanded."""
    joined = block.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.startswith("edgekd ")]
    return [
        [
            path
            for word in shlex.split(line)[1:]
            for path in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
        ]
        for line in lines
    ]


def measure() -> None:
    """Stands for the bench over ssh: models, and the files that measuring them leaves."""
    model = files.read(Path(load_profile("pi4").latency))["int8"]
    Path("models").mkdir()
    for number, (side, width) in enumerate(SIZES):
        data = separable(side=side, width=width).bytes()
        Path(f"models/m{number}.tflite").write_bytes(data)
        features = workload.features(workload.work(read(data)))
        p50 = SLOWER * sum(model.coefficients[name] * features[name] for name in features)
        body = answer(data)
        body["latency_ms"] = {**body["latency_ms"], "p50": p50}
        bench_history.keep(Path("measured"), bench_of(body, "my-board", "ssh"))
        assert body["model_sha256"] == sha256(data)


def test_the_page_is_walked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    profile, told = Path("my_board.toml"), []
    for block in blocks():
        if block.startswith("# my_board.toml"):
            profile.write_text(block)
        elif block.startswith("latency = "):
            profile.write_text(re.sub(r"^latency = .*$", block, profile.read_text(), flags=re.M))
        for words in commands(block):
            if "--ssh" in words:
                cli.make_parser().parse_args(words)
                measure()
                continue
            assert cli.main(words) == 0, capsys.readouterr().err
            told.append((words[0], capsys.readouterr().out))
    assert [verb for verb, _ in told] == ["profiles", "check", "profiles", "check"]
    shown, unmeasured, fitted, measured = (text for _, text in told)
    assert "my-board" in shown
    assert "not predicted" in unmeasured
    assert "8 models" in fitted
    assert re.search(r"latency\s+[\d.]+ ms", measured)
    assert load_profile("./my_board.toml").latency == "measured/pi4-fitted.latency.json"
