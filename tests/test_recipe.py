"""Recipes: defaults, overrides, and one clear message for each thing that can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.core.errors import EdgeKDError, RecipeError, UnknownName
from edgekd.settings import recipe


def test_order_of_precedence(tmp_path: Path) -> None:
    """File, then --set, then the command line's own options."""
    file = tmp_path / "r.toml"
    file.write_text('seed = 3\n[data]\ninput_px = 64\nsource = "a"\n[distil]\nlr = 1\n')
    found = recipe.load(
        file, ["data.input_px=128", "distil.schedule=onecycle"], {"data.source": "b"}
    )
    assert (found.seed, found.data.input_px, found.data.source) == (3, 128, "b")
    assert found.distil.schedule == "onecycle"
    assert found.distil.lr == 1.0
    assert isinstance(found.distil.lr, float)


def test_round_trip(tmp_path: Path) -> None:
    """What `edgekd new` writes loads as the same recipe, hostile strings included."""
    odd = recipe.load(None, [], {"data.source": 'a "b" \\ c', "seed": 7})
    file = tmp_path / "r.toml"
    file.write_text(recipe.to_toml(odd))
    assert recipe.load(file) == odd


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("distil.tempreature=2", "distil.temperature"),
        ("distill.lr=1", "distil"),
        ("data.fit=sqash", "squash"),
        ("teacher.mode=froozen", "frozen"),
    ],
)
def test_nearest_name(text: str, near: str) -> None:
    with pytest.raises(UnknownName, match=near) as found:
        recipe.load(None, [text])
    assert found.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("data.input_px=large", "a whole number"),
        ("distil.lr=true", "a number"),
        ("distil.lr=inf", "finite"),
        ("data.input_px=1", "32"),
        ("data.input_px", "stage.key=value"),
        ("data=3", "section"),
        ("seed=-1", "2^32"),
        ("distil.alpha=1.5", "0 .. 1"),
        ("data.val_share=0.9", "0.5"),
        ("data.limit=-1", "0 .."),
        ("distil.epochs=0", "1 .."),
        ("views.per_image=0", "1 .."),
    ],
)
def test_wrong_values(text: str, part: str) -> None:
    with pytest.raises(RecipeError) as found:
        recipe.load(None, [text])
    assert part in str(found.value)
    assert text.split("=")[0] in str(found.value)


@pytest.mark.parametrize(
    "content", [b"[data\n", b"\xff\xfe\x00", b"seed = 'x'\n", b"[data]\nnope = 1\n"]
)
def test_broken_files_are_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "my recipe.toml"
    file.write_bytes(content)
    with pytest.raises(EdgeKDError) as found:
        recipe.load(file)
    assert "my recipe.toml" in str(found.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="edgekd new"):
        recipe.load(tmp_path / "none.toml")


def test_withheld_labels_are_withheld_from_qat() -> None:
    with pytest.raises(RecipeError, match=r"qat\.alpha"):
        recipe.load(None, ['distil.labels="withheld"', "qat.alpha=0.9"])


def test_drawing_groups_evenly_needs_groups() -> None:
    with pytest.raises(RecipeError, match=r"each image's group"):
        recipe.load(None, ["distil.balance=group"])
    assert (
        recipe.load(None, ["distil.balance=group", "distil.groups=g.csv"]).distil.groups == "g.csv"
    )
