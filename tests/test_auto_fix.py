"""`--fix`: the operator that ends the mapping, the edit that fixes it, and the new recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekd.app import cli
from edgekd.assessment import auto_fix, student_check
from edgekd.core.errors import GateFailed, RecipeError
from edgekd.settings import recipe
from edgekd.settings.device_profiles import load_profile

# With hard-swish and squeeze-and-excite: the Edge TPU takes 2 of its 105 operators.
STUDENT = "mobilenetv3_small_050"


def board(folder: Path, text: str, legal: dict[str, str] | None = None, base: str = "pi4") -> str:
    """A profile of the user's own."""
    path = folder / "board.toml"
    lines = [
        f'extends = "{base}"',
        'name = "board"',
        'title = "board"',
        "measured_on_hardware = false",
        text,
    ]
    if legal is not None:
        lines += [
            "[ops]",
            'source = "test"',
            "[ops.legal]",
            *(f'{op} = "{why}"' for op, why in legal.items()),
        ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_a_recipe_that_cannot_map_is_fixed_in_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "a recipe; with 'quotes'.toml"
    path.write_text(
        "# of the ward\nseed = 3\n[data]\ninput_px = 64  # small\n\n"
        f'[distil]\nstudent = "{STUDENT}"\nepochs = 4\n'
    )
    before = path.read_text()
    assert cli.main(["check", str(path), "--profile", "coral-usb"]) == 1
    said = capsys.readouterr().err
    assert "the first that does not map is HARD_SWISH #2: Operation not supported" in said
    assert (
        "HARD_SWISH to RELU6, fused into the op before: --set edits.hard_swish=relu6; --fix does it"
        in said
    )
    assert path.read_text() == before, "a check alone changes nothing"

    assert cli.main(["check", str(path), "--profile", "coral-usb", "--fix", "--json"]) == 0
    said = capsys.readouterr()
    assert '+hard_swish = "relu6"' in said.err, "the change is shown"
    assert path.read_text() == before + '\n[edits]\nhard_swish = "relu6"\n'
    mapped = json.loads(said.out)["mapped"]
    assert mapped["mapped"] == mapped["ops"] > 50
    assert list(tmp_path.iterdir()) == [path], "nothing lies about"

    settings = recipe.load(path)
    again = auto_fix.fix_settings(settings, load_profile("coral-usb"))
    assert (again.values, again.settings) == ({}, settings), "a fixed recipe needs no second fix"


def test_several_edits_where_one_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    legal = {
        op: why for op, why in load_profile("pi4").ops.items() if op not in ("HARD_SWISH", "MEAN")
    }
    profile = board(tmp_path, 'min_mapped = { value = 1.0, source = "test" }', legal)
    monkeypatch.chdir(tmp_path)
    assert (
        cli.main(["check", STUDENT, "--profile", profile, "--set", "data.input_px=64", "--fix"])
        == 0
    )
    path = tmp_path / f"{STUDENT}-board.toml"
    found = recipe.load(path)
    assert vars(found.edits) == {
        "hard_swish": "relu6",
        "squeeze_excite": "",
        "gelu": "",
        "pooling": "average_pool",
    }
    assert (found.data.input_px, found.distil.student) == (64, STUDENT)
    with pytest.raises(RecipeError, match="exists already"):
        auto_fix.fix_recipe(STUDENT, profile, [])


def test_where_no_edit_helps_nothing_is_written(tmp_path: Path):
    """Int8 needs API 29, and no edit of the network changes that."""
    profile = board(tmp_path, 'api_level = { value = 28, source = "test" }', base="android-nnapi")
    path = tmp_path / "recipe.toml"
    path.write_text('[data]\ninput_px = 32\n[distil]\nstudent = "mobilenetv2_035"\n')
    before = path.read_text()
    with pytest.raises(GateFailed, match=r"PAD #0: kUnsupportedAndroidVersion"):
        auto_fix.fix_recipe(str(path), profile, [])
    assert path.read_text() == before


def test_nothing_to_mend_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert (
        cli.main(
            [
                "check",
                "mobilenetv2_035",
                "--profile",
                "android-nnapi",
                "--set",
                "data.input_px=32",
                "--fix",
            ]
        )
        == 0
    )
    assert "no edit is needed" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_finished_model_is_not_edited():
    with pytest.raises(RecipeError, match="finished model"):
        auto_fix.fix_recipe("model.tflite", "coral-usb", [])


def test_the_answer_of_a_name_is_of_the_student_that_the_profile_asks_for(tmp_path: Path):
    profile = board(tmp_path, 'hard_swish = { value = "relu6", source = "test" }', base="coral-usb")
    mapped = student_check.check_named(STUDENT, profile, ["data.input_px=32"]).mapped
    assert mapped.mapped == mapped.ops
    mapped = student_check.check_named(
        STUDENT, profile, ["data.input_px=32", "edits.hard_swish=keep"]
    ).mapped
    assert mapped.ends_at is not None
    assert mapped.ends_at.op == "HARD_SWISH", "a recipe's edits go before the profile's"
