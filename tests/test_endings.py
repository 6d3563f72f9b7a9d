"""How a command ends: exit code, one message, and a log for what nobody expected."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.app import cli, crash_log
from edgekd.core import files
from edgekd.core.errors import EdgeKDError, PathError
from tests.conftest import REPOSITORY

LONG_NAME = "n" * 300  # file systems allow 255 bytes


def told(error: Exception) -> tuple[str, str]:
    """The message for an error, and the text of its log, which is removed."""
    found = crash_log.as_expected(error, "build", ["build", "--data", "my pets"])
    assert found.exit_code == 2
    log = Path(next(word for word in found.next_step.split() if word.endswith(".log")))
    text = log.read_text()
    log.unlink()
    return str(found), text


def raised(error: Exception) -> Exception:
    """The error as it arrives in `main`: raised in a stage, with its traceback."""
    try:
        raise error
    except Exception as caught:
        caught.add_note("stage distil")
        return caught


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (RuntimeError("mat1 and mat2"), "RuntimeError: mat1 and mat2 (in edgekd build, stage dis"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "take a smaller distil.batch"),
        (MemoryError(), "the memory is full: MemoryError"),
        (RecursionError("maximum"), "nested too deeply"),
        (OSError(28, "No space left on device", "a.bin"), "a.bin: no space left on device"),
        (OSError(28, "No space left on device"), "free some space"),
        (ValueError("x" * 9000), "please report it"),
    ],
)
def test_an_error_that_nobody_expected(error: Exception, part: str) -> None:
    message, log = told(raised(error))
    assert part in message
    assert len(message) < 900
    assert "edgekd build --data 'my pets'" in log
    assert "Traceback" in log
    assert type(error).__name__ in log


def test_a_log_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    found = crash_log.as_expected(raised(ValueError("odd")), "check", ["check"])
    assert "EDGEKD_DEBUG=1 shows the traceback" in str(found)


def shell(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A shell command in which `edgekd` is the command line of this checkout."""
    edgekd = f'edgekd() {{ "{sys.executable}" -m edgekd "$@"; }}; set -o pipefail; {command}'
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", **variables}
    return subprocess.run(
        ["bash", "-c", edgekd], capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("edgekd models --json > /dev/full", 2, "no space left on device"),
        ("edgekd models --json | head -c 1", 0, ""),
        ("edgekd profiles >&-", 0, ""),
        ("edgekd profiles nosuch 2>&-", 2, ""),
        ("edgekd profiles $'\\x1b[31m\\xff'", 2, "unknown device profile '\\x1b[31m\\udcff'"),
    ],
)
def test_streams_that_are_full_or_closed(command: str, code: int, said: str) -> None:
    done = shell(command, PYTHONIOENCODING="ascii")
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_the_debug_variable_shows_tracebacks() -> None:
    done = shell("edgekd profiles nosuch", EDGEKD_DEBUG="1")
    assert done.returncode == 2
    assert "UnknownName" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["build", "--out", ""],
        ["build", "--data", ""],
        ["build", "--profile", ""],
        ["build", ""],
        ["check", ""],
        ["bench", ""],
        ["bench", "m.tflite", "--ssh", ""],
        ["verify", ""],
        ["report", "a", ""],
        ["new", ""],
        ["profiles", ""],
        ["models", ""],
    ],
)
def test_empty_arguments(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "is empty" in said
    assert words[-2] in said or "the argument " in said


def test_empty_arguments_in_python() -> None:
    import edgekd

    with pytest.raises(EdgeKDError, match="--out is empty"):
        edgekd.build(out="")


def test_paths_that_cannot_be_looked_at(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    assert not files.exists(tmp_path / "none")
    assert not files.is_file(tmp_path / "a\0b")
    (tmp_path / "file").touch()
    assert not files.is_folder(tmp_path / "file" / "below")
    for path, said in ((loop, "too many levels"), (tmp_path / ("n" * 300), "file name too long")):
        with pytest.raises(PathError, match=f"--data .*{said}"):
            files.is_folder(path, "--data")
    with pytest.raises(PathError, match="no home folder"):
        files.expanded("~nobody-of-this-name/x", "--data")


@pytest.mark.parametrize(
    "words",
    [
        ("convert", LONG_NAME, "--data", "phantom:120@32"),
        ("convert", f"torchvision:resnet18@{LONG_NAME}", "--data", "phantom:120@32"),
        ("search", "--write-space", LONG_NAME),
    ],
)
def test_a_name_that_is_too_long_for_a_file(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words]) == 2
    said = capsys.readouterr().err
    assert "file name too long\n  next: name a path" in said
    assert "traceback" not in said
