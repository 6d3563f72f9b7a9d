"""Plug-ins: a package adds a data source, a loss, device rules and a student for builds."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.core import plugins
from edgekd.core.errors import PluginError
from edgekd.core.plugins import Plugin
from tests.forking import Forking

EXAMPLE = Path(__file__).parent / "plugin_example"
REPOSITORY = Path(__file__).parent.parent
STUDENT = "mobilenetv2_020"


def install(source: Path, target: Path) -> None:
    """Install a package into a folder, offline."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--offline", "--target", str(target)]
    uv = shutil.which("uv")
    if uv:
        command = [uv, "pip", "install", "--python", sys.executable, *options, str(source)]
    else:
        options.remove("--offline")
        command = [sys.executable, "-m", "pip", "install", "--no-index", *options, str(source)]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the example is installed."""
    source = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(EXAMPLE, source)
    site = tmp_path_factory.mktemp("site")
    install(source, site)
    return site


class Command:
    """The command line with the packages in a folder."""

    def __init__(self, forking: Forking) -> None:
        self._forking = forking

    def edgekd(self, site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._forking.run([*arguments], path=[site])

    def build(self, site: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
        return self.edgekd(
            site,
            *("build", "--data", "disks:120", "--student", STUDENT, "--out", str(out)),
            *("--teacher", "test_resnet", "--until", "distil"),
            *("--set", "data.input_px=32", "--set", "teacher.epochs=1"),
            *("--set", "distil.epochs=1", "--set", "distil.losses.logit_l1.scale=0.5"),
            *more,
        )


@pytest.fixture
def command(forking: Forking) -> Command:
    return Command(forking)


def test_a_build_uses_a_source_a_loss_and_a_student_of_another_package(
    command: Command, site: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = command.build(site, out)
    assert done.returncode == 0, done.stderr
    entries = {path.name.partition("-")[0]: path for path in (out / "store").iterdir()}
    data = json.loads((entries["data"] / "entry.json").read_bytes())["facts"]
    assert data["name"] == "disks:120"
    assert data["facts"]["source"] == "disks drawn by the example plug-in"
    student = json.loads((entries["distil"] / "entry.json").read_bytes())["facts"]
    assert student["arch"] == STUDENT
    assert student["facts"]["losses"]["logit_l1"] == 0.5

    again = command.build(site, out)
    assert again.returncode == 0, again.stderr
    assert {path.name for path in (out / "store").iterdir()} == {p.name for p in entries.values()}

    # Another version of the package reads the images again, and trains again.
    newer = tmp_path / "newer"
    shutil.copytree(EXAMPLE, newer)
    text = (newer / "pyproject.toml").read_text(encoding="utf-8")
    (newer / "pyproject.toml").write_text(text.replace('"1.2.0"', '"1.3.0"'), encoding="utf-8")
    install(newer, tmp_path / "site")
    after = command.build(tmp_path / "site", out)
    assert after.returncode == 0, after.stderr
    made = {path.name for path in (out / "store").iterdir()} - {p.name for p in entries.values()}
    assert {name.partition("-")[0] for name in made} >= {"data", "distil"}


def test_a_check_uses_the_rules_of_another_package(
    command: Command, site: Path, tmp_path: Path
) -> None:
    board = tmp_path / "board.toml"
    board.write_text(
        'extends = "pi4"\nname = "board"\ntitle = "board"\nmeasured_on_hardware = false\n'
        'mapper = { value = "no_pad", source = "the example" }\n',
        encoding="utf-8",
    )
    arguments = ("check", STUDENT, "--profile", str(board), "--set", "data.input_px=32", "--json")
    mapped = json.loads(command.edgekd(site, *arguments).stdout)["mapped"]
    assert mapped["consumer"] == "example accelerator"
    assert {row["op"] for row in mapped["fallback"]} == {"PAD"}
    assert mapped["mapped"] == mapped["ops"] - len(mapped["fallback"]) > 30

    without = command.edgekd(tmp_path, *arguments)
    assert without.returncode == 2
    assert "mapper.value is 'no_pad', expected one of kernels, edgetpu, nnapi" in without.stderr


def test_the_models_of_other_packages_are_listed(command: Command, site: Path) -> None:
    assert STUDENT in command.edgekd(site, "models").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data", "diks:120"), "did you mean 'disks'"),
        (("--data", "disks:many"), "for example disks:200"),
        (("--set", "distil.losses.logit_l2=1"), "did you mean 'logit_l1'"),
        (("--set", "distil.losses.logit_l1.scale=20"), "a number from 0.1 to 10"),
        (("--student", "mobilenetv2_200"), "did you mean"),
    ],
)
def test_mistakes_are_told_with_the_names_of_other_packages(
    command: Command, site: Path, tmp_path: Path, arguments: tuple[str, str], words: str
) -> None:
    done = command.build(site, tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_plug_in_that_does_not_load_names_its_package(
    command: Command, site: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "site"
    shutil.copytree(site, broken)
    (broken / "edgekd_plugin_example" / "catalogue.py").write_text("import a_missing_module\n")
    done = command.build(broken, tmp_path / "out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for words in (
        "edgekd.losses 'logit_l1' of the package edgekd-plugin-example 1.2.0 does not load",
        "No module named 'a_missing_module'",
        "pip uninstall edgekd-plugin-example",
    ):
        assert words in done.stderr


def test_help_does_not_look_for_plug_ins(site: Path) -> None:
    """Neither help nor import asks for entry points, and nothing of the example is imported."""
    code = (
        "import importlib.metadata as m, sys\n"
        "def refuse(**_): raise SystemExit('asked for entry points')\n"
        "m.entry_points = refuse\n"
        "import edgekd\n"
        "from edgekd.app import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not [name for name in sys.modules if name.startswith(('torch', 'edgekd_plugin'))]\n"
    )
    paths = os.pathsep.join([str(site), str(REPOSITORY)])
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        check=True,
        capture_output=True,
    )


def test_two_packages_with_one_name_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Owner:
        def __init__(self, name: str) -> None:
            self.name, self.version = name, "1.0"

    def entries(group: str) -> list[importlib.metadata.EntryPoint]:
        found = []
        for owner in ("one", "two"):
            entry = importlib.metadata.EntryPoint("mine", f"{owner}:thing", group)
            vars(entry).update(dist=Owner(owner))
            found.append(entry)
        return found

    monkeypatch.setattr(importlib.metadata, "entry_points", entries)
    plugins.installed.cache_clear()
    try:
        with pytest.raises(PluginError, match=r"in two packages: one 1\.0 and two 1\.0"):
            plugins.find("edgekd.losses", "mine")
    finally:
        plugins.installed.cache_clear()


def test_the_code_of_a_plug_in_is_part_of_its_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for text in ("X = 1\n", "X = 2\n"):
        (tmp_path / "own_loss.py").write_text(text)
        plugins._source_digest.cache_clear()
        found.append(Plugin("edgekd.losses", "mine", "own", "1.0", "own_loss:X").identity)
    assert found[0].startswith("own==1.0 ")
    assert found[0] != found[1]
