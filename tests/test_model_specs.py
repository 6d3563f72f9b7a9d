"""Model files: the ones that come with EdgeKD are read, and mistakes in others are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.core.errors import EdgeKDError
from edgekd.core.resources import folder
from edgekd.settings import model_specs

HEAD = 'title = "T"\narch = "resnet18"\nroles = ["student"]\n'


@pytest.mark.parametrize("path", sorted(folder("models").glob("*.toml")), ids=lambda p: p.stem)
def test_every_model_file_is_read(path: Path) -> None:
    spec = model_specs.read(path)
    assert spec == model_specs.spec(path.stem)
    assert spec.name == path.stem
    assert set(spec.roles) <= set(model_specs.ROLES)
    assert len(spec.mean) == len(spec.std) in (0, 3)
    assert spec.provider == ""


def test_a_name_without_a_file_is_left_to_timm() -> None:
    spec = model_specs.spec("convnext_tiny")
    assert (spec.arch, spec.roles, spec.taps) == ("convnext_tiny", model_specs.ROLES, ())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = ", "model.toml"),
        ('title = "T"\n', "'arch' is missing"),
        (HEAD + 'tap = ["a"]\n', "did you mean 'taps'?"),
        (HEAD + 'provider = "me"\n', "unknown key"),
        (HEAD + "px = 5000\n", "px is 5000, expected a whole number from 0 to 4,096"),
        (HEAD + 'px = "224"\n', "px is '224', expected a whole number"),
        (HEAD + 'taps = "blocks.2"\n', "taps is 'blocks.2', expected a list of texts"),
        (HEAD + "mean = [0.5, true, 0.5]\n", "expected a list of numbers"),
        (HEAD + "options = 3\n", "options is 3, expected a table"),
        (HEAD.replace("student", "pupil"), 'expected a list of "student" or "teacher"'),
        (HEAD + 'output_terms = "none"\n', 'expected "" or "no-training"'),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "model.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EdgeKDError) as found:
        model_specs.read(path)
    assert words in str(found.value)
    assert str(path) in str(found.value)
