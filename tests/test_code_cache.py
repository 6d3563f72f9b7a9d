"""What is kept of EdgeKD's source between commands, and that a changed file ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.pipeline.code_cache import FOLDER_VARIABLE, CodeCache


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "one.py").write_text("A = 1\n")
    return tmp_path / "package"


def test_facts_hold_until_a_source_file_changes(package: Path) -> None:
    CodeCache(package).put("one", "code", "abc")
    assert CodeCache(package).get("one", "code") == "abc"
    assert CodeCache(package).get("two", "code") is None
    (package / "one.py").write_text("A = 22\n")
    assert CodeCache(package).get("one", "code") is None


@pytest.mark.parametrize("torn", ["", "[]", '{"state": 1}', "\0"])
def test_a_torn_file_is_no_obstacle(package: Path, tmp_path: Path, torn: str) -> None:
    CodeCache(package).put("one", "code", "abc")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text(torn)
    assert CodeCache(package).get("one", "code") is None


def test_a_folder_that_cannot_be_made_costs_time_alone(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    kept = CodeCache(package)
    kept.put("one", "code", "abc")
    assert kept.get("one", "code") == "abc"
