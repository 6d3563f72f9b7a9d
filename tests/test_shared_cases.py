"""Inputs with which users once met faults: each command of the shared cases does what is right."""

from __future__ import annotations

import contextlib
import ctypes
import json
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekd.app import cli
from tests.conftest import SHARED
from tests.shared_cases import CASES, Try

MADE_BY = SHARED / "cases" / "make_cases.py"
README = SHARED / "cases" / "README.md"
# Of Linux's capabilities: with the first two, root reads what nobody may read.
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1 << 1, 1 << 2
CAPABILITY_VERSION_3 = 0x20080522


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of all cases. Skips the test where the shared folder is absent."""
    if not MADE_BY.is_file():
        pytest.skip(f"{MADE_BY} does not exist: the cases are not part of the repository")
    folder = tmp_path_factory.mktemp("shared") / "cases"
    subprocess.run([sys.executable, str(MADE_BY), str(folder)], check=True)
    yield folder
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755)


@contextlib.contextmanager
def as_any_user() -> Iterator[None]:
    """Without root's right to read everything, if this process has it."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    held = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, held) == 0
    before = held[0]
    held[0] = before & ~(CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH)
    assert libc.capset(header, held) == 0
    try:
        yield
    finally:
        held[0] = before
        assert libc.capset(header, held) == 0


def run(command: str, where: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run one command of the README in its case's folder. Returns the exit code."""
    if command.startswith("rm -f bin/asked; "):
        (where / "bin" / "asked").unlink(missing_ok=True)
        command = command.removeprefix("rm -f bin/asked; ")
    if command.startswith("PATH=$PWD/bin:$PATH "):
        monkeypatch.setenv("PATH", str(where / "bin"), prepend=":")
        command = command.removeprefix("PATH=$PWD/bin:$PATH ")
    program, *words = shlex.split(command.replace("$N", "0" * 300))
    if program == "python3":
        with zipfile.ZipFile(words[3]) as archive:
            archive.extractall(words[4])
        return 0
    return cli.main(words)


@pytest.mark.parametrize("name", CASES)
def test_case(
    name: str,
    cases: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = cases / name
    for tried in CASES[name]:
        with monkeypatch.context() as here, as_any_user():
            here.chdir(where)
            code = run(tried.command, where, here)
        out, err = capsys.readouterr()
        # Tables are wrapped at the width of the terminal.
        said = re.sub(r"\s+", " ", out + err)
        check(tried, code, said, where)
        assert len(re.findall("edgekd: (error|failed): ", err)) == (code in (1, 2)), err


def check(tried: Try, code: int, said: str, where: Path) -> None:
    assert code in tried.code, said
    for word in tried.named:
        assert word.lower() in said.lower(), (tried.command, said)
    for word in tried.absent:
        assert word.lower() not in said.lower(), (tried.command, said)
    assert "Traceback" not in said
    for word in tried.refused if code == 2 else ():
        assert word in said, (tried.command, said)
    if tried.unwritten:
        assert not (where / tried.unwritten).exists() or not any(
            (where / tried.unwritten).iterdir()
        )
    if tried.patients:
        out = shlex.split(tried.command)[shlex.split(tried.command).index("--out") + 1]
        groups = json.loads((where / out / "report.json").read_text())["data"]["groups"]
        assert groups["train"] + groups["val"] + groups["test"] == tried.patients
        assert groups["train_and_test"] == groups["train_and_val"] == 0


def test_every_command_of_the_readme_is_tried(cases: Path) -> None:
    del cases  # skips where the shared folder is absent
    told: dict[str, list[str]] = {}
    for line in README.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            cells = re.split(r" \| ", line.strip("| "))
            told.setdefault(cells[0].strip("`"), []).extend(re.findall(r"`([^`]+)`", cells[2]))
    assert {name: [tried.command for tried in rows] for name, rows in CASES.items()} == told
